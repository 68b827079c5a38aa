use std::time::SystemTime;

use futures_util::FutureExt;
use rusqlite::TransactionBehavior;
use serde_json::Value;

use super::database::{Database, Store};
use super::row::Row;
use super::statement::Statement;
use super::{StoreError, postgres, sqlite};

/// What is noted of an administrative act.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "whoever notes an act must say everything"
)]
pub struct Note {
    /// The row's id, which begins with the time. A row is kept once, however often it is written.
    pub id: String,
    /// The act's id: what is noted before it and after it has the same.
    pub act: String,
    /// What the actor is.
    pub actor_kind: ActorKind,
    /// Who has done it: a user id, or the number of an operating-system user.
    pub actor: String,
    /// Where they were.
    pub address: Option<String>,
    /// What was done, such as `user.disable`.
    pub action: String,
    /// The user that it was done to.
    pub user_id: Option<String>,
    /// What else it was done to: the name of an instance, the id of a key.
    pub object: Option<String>,
    /// What it was done to, before.
    pub before: Option<Value>,
    /// And after.
    pub after: Option<Value>,
    /// What has become of the act.
    pub outcome: Outcome,
    /// Why it was not done, for machines.
    pub code: Option<String>,
}

/// Who may do administrative acts. These are all there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a further kind concerns whoever reads the log"
)]
pub enum ActorKind {
    /// A signed-in administrator.
    User,
    /// An operating-system user, at the gateway's socket.
    Operator,
    /// Whoever may send signals to the process.
    Signal,
}

/// What has become of an act. These are all there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a further one concerns whoever reads the log"
)]
pub enum Outcome {
    /// It begins. Without a later row of the same act nobody knows how it ended: the gateway did, or lost its store.
    Begun,
    /// It is done.
    Done,
    /// It was not done: the request was wrong, or does not fit what is there.
    Refused,
    /// It was not done, or not to the end.
    Failed,
}

/// A row of the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditRow {
    /// What was noted.
    pub note: Note,
    /// When, by the store's clock.
    pub at: SystemTime,
}

/// Which rows of the log are looked for: those that fit all that is said.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AuditFilter {
    /// Who has done it.
    pub actor: Option<String>,
    /// The user that it was done to.
    pub user_id: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// The act.
    pub act: Option<String>,
    /// Not before this time.
    pub from: Option<SystemTime>,
    /// Before this time.
    pub to: Option<SystemTime>,
}

/// A question for what a change changes, before and after, and how its answer is read. Nothing there is noted as nothing.
pub(super) type Look = (Statement, fn(&Row<'_>) -> Result<Value, StoreError>);

// === impl Store ===

impl Store {
    /// Keeps what is noted of an act.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_note(&self, note: Note) -> Result<(), StoreError> {
        self.run(put(note)).await
    }

    /// The rows that fit, the latest first: at most `limit` of those before the row of the id `before`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn audit(
        &self,
        filter: AuditFilter,
        before: Option<String>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let list = Statement::new(
            "SELECT id, act, created_at, actor_kind, actor, address, action, user_id, object, state_before,
                 state_after, result, code
             FROM admin_audit
             WHERE ($1 IS NULL OR id < $1) AND ($2 IS NULL OR actor = $2) AND ($3 IS NULL OR user_id = $3)
                 AND ($4 IS NULL OR action = $4) AND ($5 IS NULL OR act = $5)
                 AND created_at >= $6 AND created_at < $7
             ORDER BY id DESC LIMIT $8",
        );
        let from = filter.from.unwrap_or(SystemTime::UNIX_EPOCH);
        let list = list
            .with(before)
            .with(filter.actor)
            .with(filter.user_id)
            .with(filter.action)
            .with(filter.act)
            .with(from);
        let list = match filter.to {
            Some(to) => list.with(to),
            None => list.with(u64::MAX),
        };
        self.query(list.with(limit as u64), row).await
    }

    /// Changes something of `subject`, and notes that, both or neither, with what `look` finds before and after. Whether
    /// there was something to change: the statement is `RETURNING 1`, and if it returns nothing, nothing is noted.
    ///
    /// Of two who change something of one subject the second waits for the first.
    pub(super) async fn change(
        &self,
        subject: &str,
        change: Statement,
        look: Option<Look>,
        note: Note,
    ) -> Result<bool, StoreError> {
        match &self.0 {
            Database::Sqlite(file) => {
                let changed = file.run(move |connection| {
                    let immediately = TransactionBehavior::Immediate;
                    let transaction = connection.transaction_with_behavior(immediately)?;
                    let seen = |look: &Option<Look>| match look {
                        Some((find, read)) => sqlite::query(&transaction, find, *read)
                            .map(|rows| rows.into_iter().next()),
                        None => Ok(None),
                    };
                    let before = seen(&look)?;
                    if sqlite::query(&transaction, &change, |_| Ok(()))?.is_empty() {
                        return Ok(false);
                    }
                    let note = note.of(before, seen(&look)?);
                    sqlite::query(&transaction, &put(note), |_| Ok(()))?;
                    transaction.commit()?;
                    Ok(true)
                });
                changed.await
            }
            Database::Postgres(server) => {
                let (subject, work) = (subject.to_owned(), (change, look, note));
                let (subject, work) = (std::sync::Arc::new(subject), std::sync::Arc::new(work));
                let changed = server.run(move |client| {
                    let (subject, work) = (subject.clone(), work.clone());
                    async move {
                        let (change, look, note) = &*work;
                        let transaction = client.transaction().await?;
                        postgres::lock(&transaction, &subject).await?;
                        // It may have been done before the connection was lost.
                        let is_noted = Statement::new("SELECT 1 FROM admin_audit WHERE id = $1");
                        let is_noted = is_noted.with(&*note.id);
                        if !postgres::query(&transaction, &is_noted).await?.is_empty() {
                            return Ok(true);
                        }
                        let before = seen(&transaction, look).await?;
                        if postgres::query(&transaction, change).await?.is_empty() {
                            return Ok(false);
                        }
                        let note = note.clone().of(before, seen(&transaction, look).await?);
                        postgres::query(&transaction, &put(note)).await?;
                        transaction.commit().await?;
                        Ok(true)
                    }
                    .boxed()
                });
                changed.await
            }
        }
    }
}

async fn seen(
    transaction: &tokio_postgres::Transaction<'_>,
    look: &Option<Look>,
) -> Result<Option<Value>, StoreError> {
    let Some((find, read)) = look else {
        return Ok(None);
    };
    let rows = postgres::query(transaction, find).await?;
    let first = rows.first().map(|row| read(&Row::Postgres(row)));
    first.transpose()
}

fn put(note: Note) -> Statement {
    let put = Statement::new(
        "INSERT INTO admin_audit (id, act, created_at, actor_kind, actor, address, action, user_id, object,
             state_before, state_after, result, code)
         SELECT $1, $2, now_ms(), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
         WHERE NOT EXISTS (SELECT 1 FROM admin_audit WHERE id = $1)",
    );
    put.with(note.id)
        .with(note.act)
        .with(note.actor_kind.as_str())
        .with(note.actor)
        .with(note.address)
        .with(note.action)
        .with(note.user_id)
        .with(note.object)
        .with(note.before.map(|value| value.to_string()))
        .with(note.after.map(|value| value.to_string()))
        .with(note.outcome.as_str())
        .with(note.code)
}

fn row(row: &Row<'_>) -> Result<AuditRow, StoreError> {
    let json = |column| {
        let text: Option<String> = row.get(column)?;
        let value = text.map(|text| serde_json::from_str(&text));
        value.transpose().map_err(|_| StoreError::Unreadable)
    };
    let (kind, outcome): (String, String) = (row.get(3)?, row.get(11)?);
    Ok(AuditRow {
        note: Note {
            id: row.get(0)?,
            act: row.get(1)?,
            actor_kind: ActorKind::parse(&kind).ok_or(StoreError::Unreadable)?,
            actor: row.get(4)?,
            address: row.get(5)?,
            action: row.get(6)?,
            user_id: row.get(7)?,
            object: row.get(8)?,
            before: json(9)?,
            after: json(10)?,
            outcome: Outcome::parse(&outcome).ok_or(StoreError::Unreadable)?,
            code: row.get(12)?,
        },
        at: row.time(2)?,
    })
}

// === impl Note ===

impl Note {
    /// The same, with what was and what has become of it, as far as that was seen.
    fn of(mut self, before: Option<Value>, after: Option<Value>) -> Self {
        self.before = before.or(self.before);
        self.after = after.or(self.after);
        self
    }
}

// === impl ActorKind ===

impl ActorKind {
    const ALL: [Self; 3] = [Self::User, Self::Operator, Self::Signal];

    /// The word in the table and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Signal => "signal",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

// === impl Outcome ===

impl Outcome {
    const ALL: [Self; 4] = [Self::Begun, Self::Done, Self::Refused, Self::Failed];

    /// The word in the table and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{note, on_each_store};
    use super::*;

    fn by(actor: &str, note: Note) -> Note {
        let actor = actor.to_owned();
        Note { actor, ..note }
    }

    async fn ids(store: &Store, filter: AuditFilter, before: Option<&str>) -> String {
        let rows = store.audit(filter, before.map(str::to_owned), 2).await;
        let rows = rows.unwrap().into_iter();
        rows.map(|row| row.note.id).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn rows_are_found_by_what_they_say_and_in_pages() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            for (id, actor) in [("1", "a"), ("2", "b"), ("3", "a"), ("3", "z")] {
                let note = Note {
                    user_id: Some(format!("user-{id}")),
                    before: Some(json!({ "was": id })),
                    ..by(actor, note(id))
                };
                store.put_note(note).await.unwrap();
            }
            let all = AuditFilter::default;
            assert_eq!(ids(&store, all(), None).await, "3 2");
            assert_eq!(ids(&store, all(), Some("2")).await, "1");
            let of = |actor: &str| AuditFilter {
                actor: Some(actor.to_owned()),
                ..all()
            };
            assert_eq!(ids(&store, of("a"), None).await, "3 1");
            assert_eq!(ids(&store, of("z"), None).await, "", "a row is kept once");
            let now = store.time().await.unwrap();
            let minute = std::time::Duration::from_secs(60);
            for (filter, found) in [
                (
                    AuditFilter {
                        user_id: Some("user-2".to_owned()),
                        ..all()
                    },
                    "2",
                ),
                (
                    AuditFilter {
                        act: Some("act-1".to_owned()),
                        ..all()
                    },
                    "1",
                ),
                (
                    AuditFilter {
                        action: Some("x".to_owned()),
                        ..all()
                    },
                    "",
                ),
                (
                    AuditFilter {
                        from: Some(now + minute),
                        ..all()
                    },
                    "",
                ),
                (
                    AuditFilter {
                        to: Some(now - minute),
                        ..all()
                    },
                    "",
                ),
                (
                    AuditFilter {
                        from: Some(now - minute),
                        to: Some(now + minute),
                        ..all()
                    },
                    "3 2",
                ),
            ] {
                assert_eq!(ids(&store, filter.clone(), None).await, found, "{filter:?}");
            }
            let one = AuditFilter {
                act: Some("act-1".to_owned()),
                ..all()
            };
            let row = store.audit(one, None, 1).await.unwrap().remove(0);
            assert_eq!(row.note.before, Some(json!({ "was": "1" })));
            assert_eq!((row.note.after, row.note.outcome), (None, Outcome::Done));
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_noted_is_neither_changed_nor_taken_away() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            store.put_note(by("a", note("1"))).await.unwrap();
            let replace = store.words(
                "INSERT OR REPLACE INTO admin_audit SELECT id, act, 0, actor_kind, 'nobody', address, action, user_id,
                     object, state_before, state_after, result, code FROM admin_audit",
                "TRUNCATE admin_audit",
            );
            for sql in [
                "UPDATE admin_audit SET actor = 'nobody'",
                "DELETE FROM admin_audit",
                replace,
            ] {
                let refused = store.run(Statement::new(sql)).await.unwrap_err();
                let refused = format!("{refused:?}");
                assert!(refused.contains("admin_audit is append-only"), "{sql}: {refused}");
            }
            let rows = store.audit(AuditFilter::default(), None, 9).await.unwrap();
            assert_eq!(rows.len(), 1);
            assert_eq!(rows[0].note.actor, "a");
        })
        .await;
    }

    #[tokio::test]
    async fn a_change_and_its_note_are_both_there_or_neither_is() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let set = |instance: &str, id: &str| {
                let note = note(id);
                let (store, instance) = (store.clone(), instance.to_owned());
                async move { store.note_drained(&instance, true, note).await }
            };
            assert!(set("one", "1").await.unwrap());
            assert!(!set("one", "2").await.unwrap(), "it is drained already");
            let rows = store.audit(AuditFilter::default(), None, 9).await.unwrap();
            assert_eq!(rows.len(), 1);
            let note = &rows[0].note;
            assert_eq!(note.before, Some(json!({ "drained": false })));
            assert_eq!(note.after, Some(json!({ "drained": true })));

            // A log that takes no rows.
            let full = store.words(
                "CREATE TRIGGER is_full BEFORE INSERT ON admin_audit BEGIN SELECT RAISE(ABORT, 'full'); END",
                "CREATE TRIGGER is_full BEFORE INSERT ON admin_audit
                     FOR EACH ROW EXECUTE FUNCTION admin_audit_is_append_only()",
            );
            store.run(Statement::new(full)).await.unwrap();
            assert!(set("two", "3").await.is_err());
            assert_eq!(store.drained().await.unwrap(), ["one"], "refused");
        })
        .await;
    }
}
