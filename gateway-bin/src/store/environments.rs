use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use rusqlite::{OptionalExtension, params};

use super::database::{Store, StoreError, millis};
use crate::clock;
use crate::instance::SlotsInUse;

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
    /// Whether the instance has the agent with the current virtual key.
    pub agent_ready: bool,
}

/// A virtual key as the store has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VirtualKeyRow {
    /// Public name of the key.
    pub key_id: String,
    /// Who pays.
    pub user_id: Arc<str>,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
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
        let user_id = Arc::clone(user_id);
        self.run(move |connection| {
            let found = connection.query_row(
                "SELECT instance, agent_id, workspace_dir, profile_name, auth_profile_id, agent_ready_at IS NOT NULL,
                     agent_spec
                 FROM user_openclaw_environments WHERE user_id = ?1",
                [&*user_id],
                |row| {
                    Ok(EnvironmentRow {
                        user_id: Arc::clone(&user_id),
                        instance: row.get(0)?,
                        agent_id: row.get(1)?,
                        workspace_dir: row.get(2)?,
                        profile_name: row.get(3)?,
                        auth_profile_id: row.get(4)?,
                        agent_ready: row.get(5)?,
                        agent_spec: row.get(6)?,
                    })
                },
            );
            Ok(found.optional()?)
        })
        .await
    }

    /// The number of somebody's slot among the `slots` of an instance, counted from 1: the one they have, here or
    /// there, unless it is somebody else's, else the first free one; `None` if there is none left.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn assign_slot(
        &self,
        user_id: &Arc<str>,
        instance: &str,
        slots: u32,
        in_use: SlotsInUse,
    ) -> Result<Option<u32>, StoreError> {
        let (user_id, instance) = (Arc::clone(user_id), instance.to_owned());
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let assigned: HashMap<u32, String> = transaction
                .prepare("SELECT slot, user_id FROM assignments WHERE instance = ?1")?
                .query_map([&instance], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let mut theirs = assigned.iter().filter(|(_, user)| **user == *user_id);
            let theirs = theirs.next().map(|(slot, _)| *slot);
            if theirs.is_some_and(|slot| !in_use.of_others.contains(&slot)) {
                return Ok(theirs);
            }
            let unassigned = |slot: &u32| {
                !assigned.contains_key(slot) && !in_use.of_others.contains(slot)
            };
            let there = in_use.own.filter(unassigned);
            let free = || (1..=slots).find(|slot| unassigned(slot) && !in_use.with_agent.contains(slot));
            let Some(slot) = there.or_else(free) else {
                return Ok(None);
            };
            transaction.execute(
                "INSERT INTO assignments (user_id, instance, slot, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (user_id) DO UPDATE SET instance = excluded.instance, slot = excluded.slot,
                     created_at = excluded.created_at",
                params![&*user_id, instance, slot, millis(clock::now())],
            )?;
            transaction.commit()?;
            Ok(Some(slot))
        })
        .await
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
        self.run(move |connection| {
            let now = millis(clock::now());
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT INTO user_openclaw_environments (user_id, workspace_dir, profile_name, auth_profile_id, instance,
                     agent_id, agent_spec, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
                 ON CONFLICT (user_id) DO UPDATE SET workspace_dir = excluded.workspace_dir,
                     profile_name = excluded.profile_name, auth_profile_id = excluded.auth_profile_id,
                     instance = excluded.instance, agent_id = excluded.agent_id,
                     agent_spec = excluded.agent_spec, agent_ready_at = NULL,
                     updated_at = excluded.updated_at",
                params![
                    &*row.user_id,
                    row.workspace_dir,
                    row.profile_name,
                    row.auth_profile_id,
                    row.instance,
                    row.agent_id,
                    row.agent_spec,
                    now,
                ],
            )?;
            transaction.execute(
                "INSERT INTO virtual_keys (key_id, user_id, hash, created_at) VALUES (?1, ?2, ?3, ?4)",
                params![key.key_id, &*key.user_id, key.hash, now],
            )?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Notes that the instance has somebody's agent, with the key `key_id`, and ends all older keys.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn agent_ready(&self, user_id: &Arc<str>, key_id: String) -> Result<(), StoreError> {
        let user_id = Arc::clone(user_id);
        self.run(move |connection| {
            let now = millis(clock::now());
            let transaction = connection.transaction()?;
            transaction.execute(
                "UPDATE user_openclaw_environments SET agent_ready_at = ?2, updated_at = ?2 WHERE user_id = ?1",
                params![&*user_id, now],
            )?;
            transaction.execute(
                "UPDATE virtual_keys SET revoked_at = ?3 WHERE user_id = ?1 AND key_id <> ?2 AND revoked_at IS NULL",
                params![&*user_id, key_id, now],
            )?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// All virtual keys that are in force.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn virtual_keys(&self) -> Result<Vec<VirtualKeyRow>, StoreError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection
            .prepare("SELECT key_id, user_id, hash FROM virtual_keys WHERE revoked_at IS NULL")?;
        let rows = statement.query_map([], |row| {
            Ok(VirtualKeyRow {
                key_id: row.get(0)?,
                user_id: row.get::<_, String>(1)?.into(),
                hash: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use tower_sso::Identity;

    use super::*;

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        (dir, store)
    }

    fn person(user_id: &str) -> Arc<Identity> {
        Arc::new(
            Identity::builder("https://issuer.example", user_id)
                .email("a@example.com", true)
                .build(),
        )
    }

    fn environment(user_id: &str) -> EnvironmentRow {
        EnvironmentRow {
            user_id: user_id.into(),
            instance: "one".to_owned(),
            agent_id: format!("user-{user_id}"),
            agent_spec: String::new(),
            workspace_dir: "/w".to_owned(),
            profile_name: format!("user-{user_id}"),
            auth_profile_id: format!("user-{user_id}-p"),
            agent_ready: false,
        }
    }

    async fn assign(store: &Store, user_id: &str, in_use: SlotsInUse) -> Option<u32> {
        store.put_user(&person(user_id)).await.unwrap();
        let slot = store.assign_slot(&user_id.into(), "one", 3, in_use).await;
        slot.unwrap()
    }

    #[tokio::test]
    async fn everybody_has_a_slot_of_their_own_and_keeps_it() {
        let (_dir, store) = open();
        let mut slots = Vec::new();
        for user_id in ["alice", "bob", "alice", "carol", "dave", "bob"] {
            slots.push(assign(&store, user_id, SlotsInUse::default()).await);
        }
        assert_eq!(slots, [Some(1), Some(2), Some(1), Some(3), None, Some(2)]);
        let dave = "dave".into();
        let elsewhere = store.assign_slot(&dave, "two", 2, SlotsInUse::default());
        assert_eq!(elsewhere.await.unwrap(), Some(1));
    }

    fn in_use(own: Option<u32>, of_others: &[u32], with_agent: &[u32]) -> SlotsInUse {
        SlotsInUse {
            own,
            of_others: of_others.iter().copied().collect(),
            with_agent: with_agent.iter().copied().collect(),
        }
    }

    #[tokio::test]
    async fn nobody_gets_a_slot_that_the_instance_knows_as_somebody_elses() {
        let (_dir, store) = open();
        let alice = assign(&store, "alice", in_use(None, &[1], &[1, 2]));
        assert_eq!(alice.await, Some(3));
        let bob = assign(&store, "bob", in_use(Some(2), &[], &[1, 2, 3]));
        assert_eq!(bob.await, Some(2), "theirs there");
        let carol = assign(&store, "carol", in_use(Some(2), &[], &[]));
        assert_eq!(carol.await, Some(1), "bob's here");
        let alice = assign(&store, "alice", in_use(None, &[1, 3], &[]));
        assert_eq!(alice.await, None, "lost to another");
    }

    #[tokio::test]
    async fn an_agent_is_ready_with_its_newest_key_only() {
        let (_dir, store) = open();
        store.put_user(&person("alice")).await.unwrap();
        for (key_id, byte) in [("k1", 1), ("k2", 2)] {
            let key = VirtualKeyRow {
                key_id: key_id.to_owned(),
                user_id: "alice".into(),
                hash: [byte; 32],
            };
            store
                .put_environment(environment("alice"), key)
                .await
                .unwrap();
            assert!(
                !store
                    .find_environment(&"alice".into())
                    .await
                    .unwrap()
                    .unwrap()
                    .agent_ready
            );
        }
        assert_eq!(
            store.virtual_keys().unwrap().len(),
            2,
            "until the instance has the new one, the old one stays"
        );
        store
            .agent_ready(&"alice".into(), "k2".to_owned())
            .await
            .unwrap();
        assert!(
            store
                .find_environment(&"alice".into())
                .await
                .unwrap()
                .unwrap()
                .agent_ready
        );
        let keys = store.virtual_keys().unwrap();
        assert_eq!(
            keys.iter().map(|key| &*key.key_id).collect::<Vec<_>>(),
            ["k2"]
        );
    }
}
