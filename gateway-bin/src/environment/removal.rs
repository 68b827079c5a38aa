//! The end of somebody's environment.

use std::sync::Arc;

use tower_workspace::DirectoryName;

use super::error::unavailable;
use super::opening::Opening;
use super::shared::Shared;
use super::{EnvironmentError, Environments};
use crate::cells::is_spawned;
use crate::instance::{AdminError, CELL_AGENT, Upstream, slot_name};

impl Environments {
    /// Removes somebody's environment: their virtual keys, their agent on the instance, and their directory. It may be
    /// there only in part, or not at all.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`]; the next call goes on from there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop what was begun.
    pub async fn remove(&self, user_id: &Arc<str>) -> Result<(), EnvironmentError> {
        let opening = Opening::new(&self.shared, user_id);
        let turn = Arc::clone(&opening.gate).lock_owned().await;
        let user_id = Arc::clone(user_id);
        let removed = tokio::spawn(async move {
            let removed = opening.shared.remove(&user_id).await;
            drop(turn);
            drop(opening);
            removed
        });
        let removed = removed.await;
        removed.unwrap_or_else(|stopped| Err(unavailable("gateway", stopped)))
    }
}

// === impl Shared ===

impl Shared {
    async fn remove(&self, user_id: &Arc<str>) -> Result<(), EnvironmentError> {
        let _lease = match self.store.is_shared() {
            true => Some(self.lease(user_id).await?),
            false => None,
        };
        let revoked = self.store.revoke_virtual_keys(user_id).await;
        revoked.map_err(|error| unavailable("store", error))?;
        self.keys.end_all_of(user_id);
        self.forget(user_id);
        let row = self.store.find_environment(user_id).await;
        let row = row.map_err(|error| unavailable("store", error))?;
        // All that a cell has goes with it.
        if let Some(cells) = &self.cells {
            let removed = cells.remove(user_id).await;
            removed.map_err(|error| unavailable("cell", error))?;
        }
        if let Some(row) = &row
            && !(self.cells.is_some() && is_spawned(&row.instance))
            && self.upstreams.get(&row.instance).is_none()
        {
            return Err(EnvironmentError::Away(row.instance.as_str().into()));
        }
        let name = DirectoryName::for_user(user_id)?;
        for upstream in self.upstreams.all() {
            // In somebody else's cell they never were.
            if upstream
                .owner
                .as_ref()
                .is_some_and(|owner| owner != user_id)
            {
                continue;
            }
            let theirs = row.as_ref().filter(|row| row.instance == *upstream.name);
            let agent = theirs.map(|row| row.agent_id.clone());
            let ended = end(&upstream, name.as_str(), agent).await;
            ended.map_err(|error| unavailable("instance", error))?;
        }
        // Last: an agent that still works might make anew what is gone.
        let removed = self.provisioner_for(user_id).await?.remove(user_id).await;
        removed.map_err(|error| unavailable("workspace", error))?;
        // What was looked up meanwhile, for a call that was under way.
        self.forget(user_id);
        Ok(())
    }
}

/// Ends what an instance has of the person whom it knows as `user`: the agent that they work with, or one that they had before
/// they were sent elsewhere.
async fn end(upstream: &Upstream, user: &str, agent: Option<String>) -> Result<(), AdminError> {
    upstream.agents.prepared().await?;
    let agent = match agent {
        Some(agent) => Some(agent),
        None if upstream.is_cell() => Some(CELL_AGENT.to_owned()),
        None => upstream.agents.slots_in_use(user).await?.own.map(slot_name),
    };
    match agent {
        Some(agent) => upstream.end(user, &agent).await,
        None => Ok(()),
    }
}
