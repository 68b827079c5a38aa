use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;

use super::database::Store;
use super::row::Row;
use super::statement::Statement;
use super::{Note, StoreError};

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
    /// The agent that it is for, and the instance that this is on; `None`: older keys do not say.
    pub agent: Option<KeyAgent>,
}

/// The agent that a virtual key is for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "whoever names one must say everything"
)]
pub struct KeyAgent {
    /// Name of the instance.
    pub instance: Arc<str>,
    /// The agent's id there.
    pub agent: Arc<str>,
}

/// Somebody's newest virtual key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewestKey {
    /// Who pays.
    pub user_id: Arc<str>,
    /// Public name of the key.
    pub key_id: String,
    /// When it was made.
    pub created_at: SystemTime,
    /// The agent that it is for; `None`: older keys do not say.
    pub agent: Option<KeyAgent>,
}

/// What has become of a virtual key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeyChange {
    /// It came into force.
    Made(VirtualKeyRow),
    /// It was ended.
    Revoked(VirtualKeyRow),
}

// === impl Store ===

impl Store {
    /// All virtual keys that are in force.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn virtual_keys(&self) -> Result<Vec<VirtualKeyRow>, StoreError> {
        let list = Statement::new(
            "SELECT key_id, user_id, hash, instance, agent_id FROM virtual_keys WHERE revoked_at IS NULL",
        );
        self.query(list, key).await
    }

    /// The newest virtual key of somebody that is in force.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_key_of(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Option<VirtualKeyRow>, StoreError> {
        // Ids begin with the time.
        let find = Statement::new(
            "SELECT key_id, user_id, hash, instance, agent_id FROM virtual_keys WHERE user_id = $1 AND revoked_at IS NULL
             ORDER BY key_id DESC LIMIT 1",
        );
        self.query_one(find.with(user_id), key).await
    }

    /// The newest virtual key of each of those that have one, by user after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn newest_virtual_keys(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<NewestKey>, StoreError> {
        let list = Statement::new(
            "SELECT user_id, key_id, created_at, instance, agent_id FROM virtual_keys AS newest
             WHERE revoked_at IS NULL AND user_id > $1 AND NOT EXISTS (SELECT 1 FROM virtual_keys AS newer
                 WHERE newer.user_id = newest.user_id AND newer.revoked_at IS NULL AND newer.key_id > newest.key_id)
             ORDER BY user_id LIMIT $2",
        );
        let newest = self.query(list.with(after).with(limit as u64), |row| {
            Ok(NewestKey {
                user_id: row.text(0)?,
                key_id: row.get(1)?,
                created_at: row.time(2)?,
                agent: agent(row.get(3)?, row.get(4)?),
            })
        });
        newest.await
    }

    /// Ends all virtual keys of somebody; how many those were.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn revoke_virtual_keys(&self, user_id: &str) -> Result<usize, StoreError> {
        let end = Statement::new(
            "UPDATE virtual_keys SET revoked_at = now_ms() WHERE user_id = $1 AND revoked_at IS NULL
             RETURNING 1",
        );
        let ended = self.query(end.with(user_id), |_| Ok(())).await?;
        Ok(ended.len())
    }

    /// The same as an administrative act; `false`, and nothing is noted: there are none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn note_revoked_keys(&self, user_id: &str, note: Note) -> Result<bool, StoreError> {
        let end = Statement::new(
            "UPDATE virtual_keys SET revoked_at = now_ms() WHERE user_id = $1 AND revoked_at IS NULL
             RETURNING 1",
        );
        let look = Statement::new(
            "SELECT COUNT(*) FROM virtual_keys WHERE user_id = $1 AND revoked_at IS NULL",
        );
        let look = look.with(user_id);
        self.change(
            user_id,
            end.with(user_id),
            Some((look, |row| Ok(json!({ "inForce": row.get::<i64>(0)? })))),
            note,
        )
        .await
    }

    /// The virtual key with this hash, if it is in force.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_virtual_key(
        &self,
        hash: [u8; 32],
    ) -> Result<Option<VirtualKeyRow>, StoreError> {
        let find = Statement::new(
            "SELECT key_id, user_id, hash, instance, agent_id FROM virtual_keys WHERE hash = $1 AND revoked_at IS NULL",
        );
        self.query_one(find.with(&hash[..]), key).await
    }

    /// What has become of virtual keys since then, by the store's [`time`](Self::time): the latest of each.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn virtual_keys_since(
        &self,
        since: SystemTime,
    ) -> Result<Vec<KeyChange>, StoreError> {
        let list = Statement::new(
            "SELECT key_id, user_id, hash, instance, agent_id, revoked_at IS NOT NULL FROM virtual_keys
             WHERE coalesce(revoked_at, created_at) >= $1",
        );
        let changes = self.query(list.with(since), |row| {
            Ok(match row.get(5)? {
                true => KeyChange::Revoked(key(row)?),
                false => KeyChange::Made(key(row)?),
            })
        });
        changes.await
    }
}

fn agent(instance: Option<String>, agent: Option<String>) -> Option<KeyAgent> {
    let (instance, agent) = instance.zip(agent)?;
    Some(KeyAgent {
        instance: instance.into(),
        agent: agent.into(),
    })
}

fn key(row: &Row<'_>) -> Result<VirtualKeyRow, StoreError> {
    let hash: Vec<u8> = row.get(2)?;
    Ok(VirtualKeyRow {
        key_id: row.get(0)?,
        user_id: row.text(1)?,
        hash: hash.try_into().map_err(|_| StoreError::Unreadable)?,
        agent: agent(row.get(3)?, row.get(4)?),
    })
}
