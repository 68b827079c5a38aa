//! What administrators do, as it is noted in the store's log.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use uuid::Uuid;

use crate::store::{ActorKind, Note, Outcome, Store, StoreError};

/// Who does something, and where they are.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "whoever names one must say everything"
)]
pub struct Actor {
    /// What they are.
    pub kind: ActorKind,
    /// Their user id, or the number of the operating-system user.
    pub id: String,
    /// Their address.
    pub address: Option<String>,
}

/// An administrative act that is under way; clones share what is said of it.
///
/// One that changes rows of the store only is noted [with its change](Self::with_change), in one transaction. Any other is
/// noted before it [begins](Self::begin), and when it has ended. So nothing is done of which there is no row. No secret may
/// be told of an act.
#[derive(Clone, Debug)]
pub struct Act(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    actor: Actor,
    action: &'static str,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    user_id: Option<String>,
    object: Option<String>,
    before: Option<Value>,
    after: Option<Value>,
    is_noted: bool,
}

// === impl Act ===

impl Act {
    /// An act of which nothing is noted yet.
    #[must_use]
    pub fn new(actor: Actor, action: &'static str) -> Self {
        Self(Arc::new(Inner {
            id: Uuid::now_v7().to_string(),
            actor,
            action,
            told: Mutex::default(),
        }))
    }

    /// What it is.
    #[must_use]
    pub fn action(&self) -> &'static str {
        self.0.action
    }

    /// Says to which user it is done.
    pub fn to_user(&self, user_id: impl Display) {
        self.told().user_id = Some(user_id.to_string());
    }

    /// Says what else it is done to.
    pub fn to(&self, object: impl Display) {
        self.told().object = Some(object.to_string());
    }

    /// Says what was before.
    pub fn was(&self, before: Value) {
        self.told().before = Some(before);
    }

    /// Says what is after it.
    pub fn is_now(&self, after: Value) {
        self.told().after = Some(after);
    }

    /// Notes that it begins.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]; it must not begin then.
    pub async fn begin(&self, store: &Store) -> Result<(), StoreError> {
        store.put_note(self.note(Outcome::Begun, None)).await
    }

    /// What is to be noted in the transaction that changes what the act changes.
    #[must_use]
    pub fn with_change(&self) -> Note {
        self.note(Outcome::Done, None)
    }

    /// Says that this transaction was done.
    pub fn is_noted(&self) {
        self.told().is_noted = true;
    }

    /// Notes what has become of it, unless it is noted with its change.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn end(
        &self,
        store: &Store,
        outcome: Outcome,
        code: Option<&str>,
    ) -> Result<(), StoreError> {
        if self.told().is_noted {
            return Ok(());
        }
        store.put_note(self.note(outcome, code)).await
    }

    fn note(&self, outcome: Outcome, code: Option<&str>) -> Note {
        let Inner {
            id, actor, action, ..
        } = &*self.0;
        let told = self.told();
        Note {
            id: Uuid::now_v7().to_string(),
            act: id.clone(),
            actor_kind: actor.kind,
            actor: actor.id.clone(),
            address: actor.address.clone(),
            action: (*action).to_owned(),
            user_id: told.user_id.clone(),
            object: told.object.clone(),
            before: told.before.clone(),
            after: told.after.clone(),
            outcome,
            code: code.map(str::to_owned),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::AuditFilter;
    use crate::store::testing::on_each_store;

    #[tokio::test]
    async fn an_act_is_noted_with_its_change_or_before_and_after_it() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let act = |action| {
                let actor = Actor {
                    kind: ActorKind::User,
                    id: "admin".to_owned(),
                    address: None,
                };
                Act::new(actor, action)
            };
            let mixed = act("user.disable");
            mixed.to_user("alice");
            mixed.begin(&store).await.unwrap();
            mixed.is_now(json!({ "disabled": true }));
            mixed
                .end(&store, Outcome::Failed, Some("unavailable"))
                .await
                .unwrap();
            let of_rows = act("instance.drain");
            let note = of_rows.with_change();
            assert!(store.note_drained("one", true, note).await.unwrap());
            of_rows.is_noted();
            of_rows.end(&store, Outcome::Failed, None).await.unwrap();

            let rows = store.audit(AuditFilter::default(), None, 9).await.unwrap();
            let notes: Vec<_> = rows.into_iter().map(|row| row.note).collect();
            let told = notes.iter().rev().map(|note| (&*note.action, note.outcome));
            assert_eq!(
                told.collect::<Vec<_>>(),
                [
                    ("user.disable", Outcome::Begun),
                    ("user.disable", Outcome::Failed),
                    ("instance.drain", Outcome::Done)
                ]
            );
            let [done, failed, begun] = &notes[..] else {
                panic!("{notes:?}");
            };
            assert_eq!(begun.act, failed.act);
            assert_ne!(begun.act, done.act);
            assert_eq!(
                (&begun.after, &failed.after),
                (&None, &Some(json!({ "disabled": true })))
            );
            assert_eq!(failed.code.as_deref(), Some("unavailable"));
        })
        .await;
    }
}
