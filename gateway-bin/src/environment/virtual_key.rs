//! The virtual key of somebody's agent, as an operator renews and ends it.

use std::sync::Arc;

use super::agent::spec;
use super::error::unavailable;
use super::opening::Opening;
use super::people::described_person;
use super::shared::Shared;
use super::{EnvironmentError, Environments};
use crate::store::{NewestKey, Note};

impl Environments {
    /// Gives somebody's agent another virtual key, and ends the ones before when the instance has it; the new one's id, or
    /// `None` if they have no agent.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`]; the older key may still be in force then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop what was begun.
    pub async fn rotate_virtual_key(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Option<String>, EnvironmentError> {
        let opening = Opening::new(&self.shared, user_id);
        let turn = Arc::clone(&opening.gate).lock_owned().await;
        let user_id = Arc::clone(user_id);
        let rotated = tokio::spawn(async move {
            let rotated = opening.shared.rotate(&user_id).await;
            drop(turn);
            drop(opening);
            rotated
        });
        let rotated = rotated.await;
        rotated.unwrap_or_else(|stopped| Err(unavailable("gateway", stopped)))
    }

    /// Ends all virtual keys of somebody at once, on other gateways within seconds, as an administrative act: their agent
    /// calls no model until they come again, for which it gets another. `false`, and nothing is noted: they have none.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop what was begun.
    pub async fn revoke_virtual_keys(
        &self,
        user_id: &Arc<str>,
        note: Note,
    ) -> Result<bool, EnvironmentError> {
        let shared = Arc::clone(&self.shared);
        let user_id = Arc::clone(user_id);
        // Not in turn with whoever opens or rotates, which may take a minute: what they put in force meanwhile is ended
        // by the second look.
        let revoking = tokio::spawn(async move {
            let down = |error| unavailable("store", error);
            let revoked = shared.store.note_revoked_keys(&user_id, note).await;
            let revoked = revoked.map_err(down)?;
            shared.keys.end_all_of(&user_id);
            let again = shared.store.revoke_virtual_keys(&user_id).await;
            let again = again.map_err(down)?;
            shared.keys.end_all_of(&user_id);
            Ok(revoked || again > 0)
        });
        let revoked = revoking.await;
        revoked.unwrap_or_else(|stopped| Err(unavailable("gateway", stopped)))
    }

    /// The newest virtual key of each who has one, by user after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`].
    pub async fn virtual_keys(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<NewestKey>, EnvironmentError> {
        let newest = self.shared.store.newest_virtual_keys(after, limit).await;
        newest.map_err(|error| unavailable("store", error))
    }
}

impl Shared {
    async fn rotate(&self, user_id: &Arc<str>) -> Result<Option<String>, EnvironmentError> {
        let _lease = match self.store.is_shared() {
            true => Some(self.lease(user_id).await?),
            false => None,
        };
        let row = self.store.find_environment(user_id).await;
        let user = self.store.find_user(user_id).await;
        let row = row.map_err(|error| unavailable("store", error))?;
        let user = user.map_err(|error| unavailable("store", error))?;
        let (Some(row), Some(user)) = (row, user) else {
            return Ok(None);
        };
        let Some(upstream) = self.upstreams.get(&row.instance) else {
            return Err(EnvironmentError::Away(row.instance.into()));
        };
        let person = described_person(user_id, user.name, user.email);
        let person = person.with_sandbox(row.has_sandbox);
        let described = self.provisioner_of(&upstream).describe(&person)?;
        let prepared = upstream.agents.prepared().await;
        prepared.map_err(|error| unavailable("instance", error))?;
        let changes = upstream.admin.changes();
        let minted = self.keys.mint(user_id);
        let minted = minted.map_err(|error| unavailable("randomness", error))?;
        let key_id = minted.row.key_id.clone();
        let agent: Arc<str> = row.agent_id.into();
        let spec = spec(&upstream, Arc::clone(&agent), &described)?;
        let person = person.with_key_id(key_id.as_str());
        self.provision(&upstream, &person).await?;
        let workspace = described.with_instance(Arc::clone(&upstream.name));
        let workspace = workspace.with_slot(agent);
        self.make_agent(&upstream, &workspace, spec, minted).await?;
        self.keep(workspace, &upstream, changes);
        Ok(Some(key_id))
    }
}
