use std::sync::Arc;

use super::StoreError;
use super::database::Store;
use super::statement::Statement;
use super::virtual_keys::VirtualKeyRow;

/// Somebody's environment as the store has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EnvironmentRow {
    /// Whose it is.
    pub user_id: Arc<str>,
    /// Instance it lies on.
    pub instance: String,
    /// Agent on that instance.
    pub agent_id: String,
    /// Fingerprint of what the agent was made from.
    pub agent_spec: String,
    /// Directory on this host.
    pub workspace_dir: String,
    /// Profile name.
    pub profile_name: String,
    /// Auth profile id.
    pub auth_profile_id: String,
    /// Whether the tools of the agent must run in a sandbox.
    pub has_sandbox: bool,
    /// Whether the instance has the agent with the current virtual key.
    pub agent_ready: bool,
}

// === impl Store ===

impl Store {
    /// Somebody's environment.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_environment(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Option<EnvironmentRow>, StoreError> {
        let find = Statement::new(
            "SELECT user_id, instance, agent_id, agent_spec, workspace_dir, profile_name, auth_profile_id,
                 agent_ready_at IS NOT NULL, has_sandbox
             FROM user_openclaw_environments WHERE user_id = $1",
        );
        let found = self.query_one(find.with(user_id), |row| {
            Ok(EnvironmentRow {
                user_id: row.text(0)?,
                instance: row.get(1)?,
                agent_id: row.get(2)?,
                agent_spec: row.get(3)?,
                workspace_dir: row.get(4)?,
                profile_name: row.get(5)?,
                auth_profile_id: row.get(6)?,
                agent_ready: row.get(7)?,
                has_sandbox: row.get(8)?,
            })
        });
        found.await
    }

    /// Whether somebody's environment is with that agent on that instance, and they have their place there: in a pool an
    /// assignment, in their own cell nothing more.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn is_at(
        &self,
        user_id: &Arc<str>,
        instance: &str,
        agent: &str,
        is_cell: bool,
    ) -> Result<bool, StoreError> {
        // At every visit of everybody: one question, and not one for each table.
        let find = Statement::new(
            "SELECT 1 FROM user_openclaw_environments AS theirs
             WHERE user_id = $1 AND instance = $2 AND agent_id = $3 AND ($4 OR EXISTS (SELECT 1 FROM assignments AS place
                 WHERE place.user_id = theirs.user_id AND place.instance = theirs.instance))",
        );
        let find = find.with(user_id).with(instance).with(agent).with(is_cell);
        self.does(find).await
    }

    /// Keeps somebody's environment and a new virtual key for it, before the instance gets either: whatever happens
    /// then, no agent has a key that is not known here.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_environment(
        &self,
        row: EnvironmentRow,
        key: VirtualKeyRow,
    ) -> Result<(), StoreError> {
        let environment = Statement::new(
            "INSERT INTO user_openclaw_environments (user_id, workspace_dir, profile_name, auth_profile_id, instance,
                 agent_id, agent_spec, has_sandbox, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now_ms(), now_ms())
             ON CONFLICT (user_id) DO UPDATE SET workspace_dir = excluded.workspace_dir,
                 profile_name = excluded.profile_name, auth_profile_id = excluded.auth_profile_id,
                 instance = excluded.instance, agent_id = excluded.agent_id,
                 agent_spec = excluded.agent_spec, has_sandbox = excluded.has_sandbox, agent_ready_at = NULL,
                 updated_at = excluded.updated_at",
        );
        let environment = environment
            .with(&row.user_id)
            .with(row.workspace_dir)
            .with(row.profile_name)
            .with(row.auth_profile_id)
            .with(row.instance)
            .with(row.agent_id)
            .with(row.agent_spec)
            .with(row.has_sandbox);
        // It is there already if this is done again because the answer was lost.
        let with_key = Statement::new(
            "INSERT INTO virtual_keys (key_id, user_id, hash, instance, agent_id, created_at)
             VALUES ($1, $2, $3, $4, $5, now_ms()) ON CONFLICT (key_id) DO NOTHING",
        );
        let (instance, agent) = key.agent.map(|of| (of.instance, of.agent)).unzip();
        let with_key = with_key
            .with(key.key_id)
            .with(&key.user_id)
            .with(&key.hash[..])
            .with(instance.as_deref())
            .with(agent.as_deref());
        self.apply(&row.user_id, vec![environment, with_key]).await
    }

    /// Notes that the instance has somebody's agent, with the key `key_id`, and ends all older keys.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn agent_ready(&self, user_id: &Arc<str>, key_id: String) -> Result<(), StoreError> {
        let ready = Statement::new(
            "UPDATE user_openclaw_environments SET agent_ready_at = now_ms(), updated_at = now_ms() WHERE user_id = $1",
        );
        // A newer one may be another gateway's, which has not come as far.
        let end = Statement::new(
            "UPDATE virtual_keys SET revoked_at = now_ms() WHERE user_id = $1 AND revoked_at IS NULL
                 AND (created_at, key_id) < (SELECT created_at, key_id FROM virtual_keys WHERE key_id = $2)",
        );
        let statements = vec![ready.with(user_id), end.with(user_id).with(key_id)];
        self.apply(user_id, statements).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assign, environment, note, on_each_store, person};
    use super::super::{KeyChange, VirtualKeyRow};
    use super::*;

    fn key(key_id: &str, byte: u8) -> VirtualKeyRow {
        VirtualKeyRow {
            key_id: key_id.to_owned(),
            user_id: "alice".into(),
            hash: [byte; 32],
            agent: None,
        }
    }

    async fn is_ready(store: &Store) -> bool {
        let found = store.find_environment(&"alice".into()).await.unwrap();
        found.unwrap().agent_ready
    }

    async fn in_force(store: &Store) -> Vec<String> {
        let keys = store.virtual_keys().await.unwrap();
        let mut ids: Vec<_> = keys.into_iter().map(|key| key.key_id).collect();
        ids.sort();
        ids
    }

    #[tokio::test]
    async fn an_agent_is_ready_with_its_newest_key_only() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            store.put_user(&person("alice")).await.unwrap();
            let nothing = store.find_environment(&"alice".into()).await.unwrap();
            assert!(nothing.is_none());
            for key in [key("k1", 1), key("k2", 2)] {
                let put = store.put_environment(environment("alice"), key);
                put.await.unwrap();
                assert!(!is_ready(&store).await);
            }
            assert_eq!(
                in_force(&store).await,
                ["k1", "k2"],
                "until the instance has the new one, the old one stays"
            );
            let ready = |key_id: &str| {
                let (store, key_id) = (store.clone(), key_id.to_owned());
                async move { store.agent_ready(&"alice".into(), key_id).await.unwrap() }
            };
            ready("k1").await;
            assert_eq!(
                in_force(&store).await,
                ["k1", "k2"],
                "who was slower ends nothing that is newer"
            );
            ready("k2").await;
            assert!(is_ready(&store).await);
            assert_eq!(in_force(&store).await, ["k2"]);
        })
        .await;
    }

    #[tokio::test]
    async fn somebody_is_where_their_environment_and_their_place_are() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let alice: Arc<str> = "alice".into();
            store.put_user(&person("alice")).await.unwrap();
            let is_at = |instance: &'static str, agent: &'static str, is_cell| {
                let (store, alice) = (store.clone(), Arc::clone(&alice));
                async move {
                    let is_at = store.is_at(&alice, instance, agent, is_cell).await;
                    is_at.unwrap()
                }
            };
            let row = EnvironmentRow {
                instance: "one".to_owned(),
                agent_id: "slot-001".to_owned(),
                ..environment("alice")
            };
            for is_cell in [true, false] {
                assert!(!is_at("one", "slot-001", is_cell).await, "nothing is there");
            }
            store.put_environment(row, key("k1", 1)).await.unwrap();
            assert!(is_at("one", "slot-001", true).await);
            assert!(!is_at("one", "slot-001", false).await, "without a place");
            assign(&store, &alice, "one").await;
            assert!(is_at("one", "slot-001", false).await);
            for is_cell in [true, false] {
                assert!(!is_at("two", "slot-001", is_cell).await);
                assert!(!is_at("one", "slot-002", is_cell).await);
            }
            store
                .delete_assignment(&alice, "one", note("1"))
                .await
                .unwrap();
            assign(&store, &alice, "two").await;
            assert!(!is_at("one", "slot-001", false).await, "they were moved");
        })
        .await;
    }

    #[tokio::test]
    async fn who_requires_a_sandbox_is_known_to() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            store.put_user(&person("alice")).await.unwrap();
            for (n, has_sandbox) in [(1, false), (2, true)] {
                let row = EnvironmentRow {
                    has_sandbox,
                    ..environment("alice")
                };
                let put = store.put_environment(row, key(&format!("k{n}"), n)).await;
                put.unwrap();
                let found = store.find_environment(&"alice".into()).await.unwrap();
                assert_eq!(found.map(|row| row.has_sandbox), Some(has_sandbox));
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_virtual_key_is_found_until_it_is_revoked_and_both_are_heard_of() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            store.put_user(&person("alice")).await.unwrap();
            let since = store.time().await.unwrap();
            let found = |byte| {
                let store = store.clone();
                async move {
                    let found = store.find_virtual_key([byte; 32]).await.unwrap();
                    found.map(|key| (key.key_id, key.hash))
                }
            };
            assert_eq!(found(1).await, None);
            for key in [key("k1", 1), key("k2", 2)] {
                let put = store.put_environment(environment("alice"), key);
                put.await.unwrap();
            }
            assert_eq!(found(1).await, Some(("k1".to_owned(), [1; 32])));
            let alice = "alice".into();
            let ready = store.agent_ready(&alice, "k2".to_owned());
            ready.await.unwrap();
            assert_eq!(found(1).await, None);
            let changes = store.virtual_keys_since(since).await.unwrap();
            let mut changes: Vec<_> = changes
                .into_iter()
                .map(|change| match change {
                    KeyChange::Made(key) => (key.key_id, "made"),
                    KeyChange::Revoked(key) => (key.key_id, "revoked"),
                })
                .collect();
            changes.sort();
            assert_eq!(
                changes,
                [("k1".to_owned(), "revoked"), ("k2".to_owned(), "made")]
            );
            let later = since + std::time::Duration::from_secs(60);
            assert!(store.virtual_keys_since(later).await.unwrap().is_empty());
        })
        .await;
    }
}
