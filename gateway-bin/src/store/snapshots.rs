use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::StoreError;
use super::database::Store;
use super::row::Row;
use super::statement::Statement;

/// What there was of somebody at a time.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SnapshotRow {
    /// Its id.
    pub id: String,
    /// What it is of: `workspace_files`, `api_keys`, `quota_status` or `sandbox_status`.
    pub snapshot_type: String,
    /// What there was, in JSON.
    pub data: String,
    /// When it was taken.
    pub created_at: SystemTime,
}

/// Keys of somebody, counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct KeyCounts {
    /// Virtual keys that are in force.
    pub in_force: u64,
    /// Virtual keys that were ended.
    pub ended: u64,
}

/// Where somebody's agent is, and whether its tools run in a sandbox.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SandboxState {
    /// Instance that the agent is on.
    pub instance: String,
    /// The agent.
    pub agent_id: String,
    /// Whether the instance has it, with the current virtual key.
    pub agent_ready: bool,
    /// Whether a sandbox is required.
    pub has_sandbox: bool,
}

// === impl Store ===

impl Store {
    /// Keeps what was found of somebody, all of it as of now, unless they are not here, or are being deleted.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_snapshots(
        &self,
        user_id: &Arc<str>,
        found: Vec<(String, &'static str, String)>,
    ) -> Result<(), StoreError> {
        // In one turn with the end of a deletion: nothing is kept of who is gone.
        let put = found.into_iter().map(|(id, snapshot_type, data)| {
            let put = Statement::new(
                "INSERT INTO user_environment_snapshots (id, user_id, snapshot_type, snapshot_data, created_at)
                 SELECT $2, user_id, $3, $4, now_ms() FROM oauth_users
                 WHERE user_id = $1 AND deleted_at IS NULL AND deletion_begun_at IS NULL",
            );
            put.with(user_id).with(id).with(snapshot_type).with(data)
        });
        self.apply(user_id, put.collect()).await
    }

    /// Snapshots of somebody, the latest first, from behind the one with the id `after`, or from the beginning if that is
    /// empty; at most `limit`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn snapshots(
        &self,
        user_id: &Arc<str>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<SnapshotRow>, StoreError> {
        // Where that one is too old to be kept, so is what is behind it.
        let list = Statement::new(
            "SELECT id, snapshot_type, snapshot_data, created_at FROM user_environment_snapshots
             WHERE user_id = $1 AND ($2 = '' OR (created_at, id) <
                 (SELECT created_at, id FROM user_environment_snapshots WHERE user_id = $1 AND id = $2))
             ORDER BY created_at DESC, id DESC LIMIT $3",
        );
        let list = list.with(user_id).with(after).with(limit as u64);
        self.query(list, snapshot).await
    }

    /// The snapshot of somebody with that id.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_snapshot(
        &self,
        user_id: &Arc<str>,
        id: &str,
    ) -> Result<Option<SnapshotRow>, StoreError> {
        let find = Statement::new(
            "SELECT id, snapshot_type, snapshot_data, created_at FROM user_environment_snapshots
             WHERE user_id = $1 AND id = $2",
        );
        self.query_one(find.with(user_id).with(id), snapshot).await
    }

    /// The next people by id after `after`, at most `limit`, each with whether nothing was taken of them for `every`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn snapshots_due(
        &self,
        after: &str,
        limit: usize,
        every: Duration,
    ) -> Result<Vec<(Arc<str>, bool)>, StoreError> {
        let list = Statement::new(
            "SELECT u.user_id, NOT EXISTS (SELECT 1 FROM user_environment_snapshots s
                 WHERE s.user_id = u.user_id AND s.created_at > now_ms() - $3)
             FROM (SELECT user_id FROM oauth_users
                 WHERE user_id > $1 AND deleted_at IS NULL AND deletion_begun_at IS NULL
                 ORDER BY user_id LIMIT $2) u
             ORDER BY u.user_id",
        );
        let list = list.with(after).with(limit as u64).with(every);
        self.query(list, |row| Ok((row.text(0)?, row.get(1)?)))
            .await
    }

    /// Deletes the oldest snapshots of those that are older than `keep`, at most `limit`; how many those were.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn delete_old_snapshots(
        &self,
        keep: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let delete = Statement::new(
            "DELETE FROM user_environment_snapshots WHERE id IN (SELECT id FROM user_environment_snapshots
                 WHERE created_at < now_ms() - $1 ORDER BY created_at LIMIT $2) RETURNING 1",
        );
        let delete = delete.with(keep).with(limit as u64);
        Ok(self.query(delete, |_| Ok(())).await?.len())
    }

    /// How many virtual keys somebody has, and had.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn count_virtual_keys(&self, user_id: &Arc<str>) -> Result<KeyCounts, StoreError> {
        let count = Statement::new(
            "SELECT COUNT(*), COUNT(revoked_at) FROM virtual_keys WHERE user_id = $1",
        );
        let counted = self.query_one(count.with(user_id), |row| {
            let (all, ended) = (row.amount(0)?, row.amount(1)?);
            Ok(KeyCounts {
                in_force: all.saturating_sub(ended),
                ended,
            })
        });
        counted.await?.ok_or(StoreError::Unreadable)
    }

    /// Where somebody's agent is; `None`: they have none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn sandbox_state(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Option<SandboxState>, StoreError> {
        let find = Statement::new(
            "SELECT instance, agent_id, agent_ready_at IS NOT NULL, has_sandbox FROM user_openclaw_environments
             WHERE user_id = $1",
        );
        let state = |row: &Row<'_>| {
            Ok(SandboxState {
                instance: row.get(0)?,
                agent_id: row.get(1)?,
                agent_ready: row.get(2)?,
                has_sandbox: row.get(3)?,
            })
        };
        self.query_one(find.with(user_id), state).await
    }
}

fn snapshot(row: &Row<'_>) -> Result<SnapshotRow, StoreError> {
    Ok(SnapshotRow {
        id: row.get(0)?,
        snapshot_type: row.get(1)?,
        data: row.get(2)?,
        created_at: row.time(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::VirtualKeyRow;
    use super::super::testing::{environment, on_each_store, person};
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    async fn put(store: &Store, user: &str, ids: &[&str]) {
        let found = ids
            .iter()
            .map(|id| ((*id).to_owned(), "api_keys", format!("{{\"id\":\"{id}\"}}")));
        store
            .put_snapshots(&user.into(), found.collect())
            .await
            .unwrap();
    }

    async fn ids(store: &Store, user: &str, after: &str, limit: usize) -> Vec<String> {
        let listed = store.snapshots(&user.into(), after, limit).await.unwrap();
        listed.into_iter().map(|snapshot| snapshot.id).collect()
    }

    async fn due(store: &Store, every: Duration) -> Vec<(String, bool)> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = store.snapshots_due(&after, 1, every).await.unwrap();
            let Some((user, is_due)) = page.into_iter().next() else {
                return all;
            };
            after = user.to_string();
            all.push((user.to_string(), is_due));
        }
    }

    #[tokio::test]
    async fn snapshots_are_listed_from_the_latest_on_and_each_person_has_their_own() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            for user in ["alice", "bob"] {
                store.put_user(&person(user)).await.unwrap();
            }
            put(&store, "alice", &["a1", "a2"]).await;
            put(&store, "bob", &["b1"]).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            put(&store, "alice", &["a0"]).await;
            assert_eq!(ids(&store, "alice", "", 9).await, ["a0", "a2", "a1"]);
            assert_eq!(ids(&store, "alice", "", 2).await, ["a0", "a2"]);
            assert_eq!(ids(&store, "alice", "a2", 9).await, ["a1"]);
            assert!(ids(&store, "alice", "a1", 9).await.is_empty());
            assert!(ids(&store, "alice", "b1", 9).await.is_empty());
            assert!(ids(&store, "alice", "no", 9).await.is_empty());
            assert_eq!(ids(&store, "bob", "", 9).await, ["b1"]);
        })
        .await;
    }

    #[tokio::test]
    async fn d4_47_nothing_is_kept_of_who_is_being_deleted_or_was_never_here() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let alice = Arc::from("alice");
            put(&store, "alice", &["a0"]).await;
            store.put_user(&person("alice")).await.unwrap();
            assert!(ids(&store, "alice", "", 9).await.is_empty());
            put(&store, "alice", &["a1"]).await;
            assert!(store.begin_deletion(&alice).await.unwrap());
            put(&store, "alice", &["a2"]).await;
            assert_eq!(ids(&store, "alice", "", 9).await, ["a1"]);
            assert!(due(&store, DAY).await.is_empty());
            store.finish_deletion(&alice).await.unwrap();
            put(&store, "alice", &["a3"]).await;
            assert!(ids(&store, "alice", "", 9).await.is_empty());
            assert!(due(&store, DAY).await.is_empty());
            store.put_user(&person("alice")).await.unwrap();
            put(&store, "alice", &["a4"]).await;
            assert_eq!(ids(&store, "alice", "", 9).await, ["a4"], "she is new");
        })
        .await;
    }

    #[tokio::test]
    async fn one_of_whom_something_was_taken_lately_is_not_due() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            for user in ["alice", "bob", "carol"] {
                store.put_user(&person(user)).await.unwrap();
            }
            put(&store, "bob", &["b1"]).await;
            let is_due = |due: Vec<(String, bool)>| due.into_iter().map(|(_, due)| due).collect();
            let lately: Vec<bool> = is_due(due(&store, DAY).await);
            assert_eq!(lately, [true, false, true]);
            tokio::time::sleep(Duration::from_millis(20)).await;
            let long_ago: Vec<bool> = is_due(due(&store, Duration::from_millis(5)).await);
            assert_eq!(long_ago, [true; 3]);
        })
        .await;
    }

    #[tokio::test]
    async fn the_oldest_go_first() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            store.put_user(&person("alice")).await.unwrap();
            for id in ["a1", "a2", "a3"] {
                put(&store, "alice", &[id]).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let delete = async |keep, limit| store.delete_old_snapshots(keep, limit).await.unwrap();
            assert_eq!(delete(DAY, 9).await, 0);
            assert_eq!(delete(Duration::ZERO, 2).await, 2);
            assert_eq!(ids(&store, "alice", "", 9).await, ["a3"]);
            assert_eq!(delete(Duration::ZERO, 2).await, 1);
        })
        .await;
    }

    #[tokio::test]
    async fn keys_are_counted_and_an_agent_is_known() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let alice = Arc::from("alice");
            store.put_user(&person("alice")).await.unwrap();
            assert!(store.sandbox_state(&alice).await.unwrap().is_none());
            for (key_id, byte) in [("k1", 1), ("k2", 2)] {
                let key = VirtualKeyRow {
                    key_id: key_id.to_owned(),
                    user_id: "alice".into(),
                    hash: [byte; 32],
                    agent: None,
                };
                let put = store.put_environment(environment("alice"), key);
                put.await.unwrap();
            }
            store.agent_ready(&alice, "k2".to_owned()).await.unwrap();
            let counts = store.count_virtual_keys(&alice).await.unwrap();
            assert_eq!((counts.in_force, counts.ended), (1, 1));
            let state = store.sandbox_state(&alice).await.unwrap().unwrap();
            assert_eq!(
                (&*state.agent_id, state.agent_ready, state.has_sandbox),
                ("user-alice", true, false)
            );
        })
        .await;
    }
}
