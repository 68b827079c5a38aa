use std::sync::Arc;
use std::time::SystemTime;

use super::StoreError;
use super::database::Store;
use super::statement::Statement;

/// Somebody as administrators see them among all.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListedUser {
    /// Stable id.
    pub user_id: Arc<str>,
    /// Alias of the issuer.
    pub provider: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Full name.
    pub name: Option<String>,
    /// Whether they are kept out.
    pub disabled: bool,
    /// Whether a deletion of theirs was begun and has not come to its end.
    pub is_being_deleted: bool,
    /// Last sign-in.
    pub last_login_at: SystemTime,
    /// The agent that they have.
    pub agent_id: Option<String>,
}

// === impl Store ===

impl Store {
    /// Everybody who is here, by id after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn list_users(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ListedUser>, StoreError> {
        let list = Statement::new(
            "SELECT u.user_id, u.provider, u.email, u.name, u.disabled, u.deletion_begun_at IS NOT NULL,
                 u.last_login_at, e.agent_id
             FROM oauth_users u LEFT JOIN user_openclaw_environments e ON e.user_id = u.user_id
             WHERE u.user_id > $1 AND u.deleted_at IS NULL ORDER BY u.user_id LIMIT $2",
        );
        let listed = self.query(list.with(after).with(limit as u64), |row| {
            Ok(ListedUser {
                user_id: row.text(0)?,
                provider: row.get(1)?,
                email: row.get(2)?,
                name: row.get(3)?,
                disabled: row.get(4)?,
                is_being_deleted: row.get(5)?,
                last_login_at: row.time(6)?,
                agent_id: row.get(7)?,
            })
        });
        listed.await
    }

    /// Keeps that somebody is being deleted; `false` if they were never here.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn begin_deletion(&self, user_id: &Arc<str>) -> Result<bool, StoreError> {
        let begin = Statement::new(
            "UPDATE oauth_users SET deletion_begun_at = coalesce(deletion_begun_at, now_ms())
             WHERE user_id = $1 RETURNING 1",
        );
        self.does(begin.with(user_id)).await
    }

    /// Forgets somebody of whom nothing else is left, but for their id and whether they are kept out; their place on an
    /// instance is nobody's any more. Whether they are kept out.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn finish_deletion(&self, user_id: &Arc<str>) -> Result<bool, StoreError> {
        let statements = [
            "INSERT INTO retired_slots (instance, slot) SELECT instance, slot FROM assignments WHERE user_id = $1
             ON CONFLICT (instance, slot) DO NOTHING",
            "DELETE FROM assignments WHERE user_id = $1",
            "DELETE FROM user_openclaw_environments WHERE user_id = $1",
            "DELETE FROM user_environment_snapshots WHERE user_id = $1",
            "DELETE FROM identities WHERE user_id = $1",
        ];
        let mut statements: Vec<_> = statements
            .into_iter()
            .map(|sql| Statement::new(sql).with(user_id))
            .collect();
        // What is left of both says to other gateways that they are gone; the rows of virtual keys are revoked already.
        let keys = Statement::new(
            "UPDATE provider_keys SET sealed = $2, updated_at = now_ms() WHERE user_id = $1",
        );
        statements.push(keys.with(user_id).with(&[][..]));
        let forget = Statement::new(
            "UPDATE oauth_users SET email = NULL, email_verified = $2, name = NULL, avatar_url = NULL,
                 updated_at = now_ms(), deletion_begun_at = NULL, deleted_at = now_ms()
             WHERE user_id = $1",
        );
        statements.push(forget.with(user_id).with(false));
        self.apply(user_id, statements).await?;
        let disabled = Statement::new("SELECT disabled FROM oauth_users WHERE user_id = $1");
        let disabled = self.query_one(disabled.with(user_id), |row| row.get(0));
        Ok(disabled.await?.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{environment, on_each_store, person};
    use super::super::{Link, VirtualKeyRow};
    use super::*;
    use crate::instance::SlotsInUse;
    use crate::store::{Assigned, Candidate};

    #[tokio::test]
    async fn d4_47_of_who_is_deleted_only_the_id_is_left_and_the_place_is_nobodys() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let (alice, bob) = (Arc::from("alice"), Arc::from("bob"));
            assert!(!store.begin_deletion(&alice).await.unwrap());
            for (user, hash) in [("alice", 1), ("bob", 2)] {
                store.put_user(&person(user)).await.unwrap();
                let key = VirtualKeyRow {
                    key_id: format!("key-{user}"),
                    user_id: user.into(),
                    hash: [hash; 32],
                    agent: None,
                };
                let row = crate::store::EnvironmentRow {
                    agent_id: format!("agent-{user}"),
                    ..environment(user)
                };
                store.put_environment(row, key).await.unwrap();
                store
                    .put_provider_key(user, "openai", b"sealed")
                    .await
                    .unwrap();
                let link = Link::new("github", user, user);
                assert!(store.link(link, "admin").await.unwrap());
            }
            let assign = |user: &Arc<str>| {
                let (store, user) = (store.clone(), Arc::clone(user));
                async move {
                    let candidate = Candidate {
                        instance: "one".to_owned(),
                        slots: 3,
                        in_use: SlotsInUse::default(),
                    };
                    let assigned = store.assign_slot(&user, None, vec![candidate]).await;
                    match assigned.unwrap() {
                        Assigned::Slot { slot, .. } => Some(slot),
                        _ => None,
                    }
                }
            };
            assert_eq!(
                (assign(&alice).await, assign(&bob).await),
                (Some(1), Some(2))
            );

            assert!(store.begin_deletion(&alice).await.unwrap());
            let listed = store.list_users("", 10).await.unwrap();
            let begun: Vec<_> = listed.iter().map(|user| user.is_being_deleted).collect();
            assert_eq!(begun, [true, false]);
            store.revoke_virtual_keys("alice").await.unwrap();
            for _ in 0..2 {
                assert!(!store.finish_deletion(&alice).await.unwrap());
            }
            let listed = store.list_users("", 10).await.unwrap();
            let listed: Vec<_> = listed.iter().map(|user| &*user.user_id).collect();
            assert_eq!(listed, ["bob"]);
            assert_eq!(store.list_users("bob", 10).await.unwrap().len(), 0);
            assert!(store.find_environment(&alice).await.unwrap().is_none());
            assert!(store.find_environment(&bob).await.unwrap().is_some());
            let keys = store.provider_keys().await.unwrap();
            let links = store.links().await.unwrap();
            assert_eq!((keys.len(), links.len()), (1, 1));
            assert_eq!(&*keys[0].user_id, "bob");
            let left = store.find_user(&alice).await.unwrap().unwrap();
            assert_eq!((left.email, left.name, left.avatar_url), (None, None, None));

            // Who comes again is new, and gets another place; nobody gets the one that was.
            store.put_user(&person("alice")).await.unwrap();
            assert_eq!(store.list_users("", 10).await.unwrap().len(), 2);
            assert_eq!(assign(&alice).await, Some(3));
            store.put_user(&person("carol")).await.unwrap();
            assert_eq!(assign(&"carol".into()).await, None);
            store.set_disabled("bob", true).await.unwrap();
            assert!(store.finish_deletion(&bob).await.unwrap(), "kept out");
        })
        .await;
    }
}
