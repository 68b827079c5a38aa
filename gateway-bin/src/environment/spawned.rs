//! People whose instance is started when they come.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tower_workspace::fs::{Owner, Provisioner};

use super::error::unavailable;
use super::shared::Shared;
use super::{EnvironmentError, Environments};
use crate::cells::{Cells, InUse, is_spawned};
use crate::instance::Upstream;

/// How long the administration channel of a cell that is ready may take.
const REACHED: Duration = Duration::from_secs(5);

impl Environments {
    /// The cells that are started when somebody comes, if there are any.
    #[must_use]
    pub fn cells(&self) -> Option<&Cells> {
        self.shared.cells.as_ref()
    }

    /// What counts and exports the directory of somebody, whoever its files belong to.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does nothing.
    pub async fn provisioner_of(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Provisioner, EnvironmentError> {
        self.shared.provisioner_for(user_id).await
    }
}

// === impl Shared ===

impl Shared {
    /// The cells, where somebody's is one that is started when they come: they have no other.
    pub(super) fn spawned(&self, user_id: &str) -> Option<&Cells> {
        let cells = self.cells.as_ref()?;
        let theirs = self.upstreams.cell_of(user_id);
        let is_configured = theirs.is_some_and(|upstream| !is_spawned(&upstream.name));
        (!is_configured).then_some(cells)
    }

    /// Starts somebody's cell if it does not run, and says when to come again.
    pub(super) fn wake(&self, user_id: &Arc<str>) -> Result<(), EnvironmentError> {
        match self.spawned(user_id) {
            Some(cells) => Ok(cells.wake(user_id).map(drop)?),
            None => Ok(()),
        }
    }

    /// Waits a moment for the administration channel of somebody's cell, which is opened once the cell is ready.
    pub(super) async fn reached(&self, user_id: &str) {
        if self.spawned(user_id).is_some()
            && let Some(upstream) = self.upstreams.cell_of(user_id)
        {
            // Without it opening the environment says what is wrong.
            let _ = timeout(REACHED, upstream.admin.connected()).await;
        }
    }

    /// What counts, exports and removes the directory of somebody, whoever its files belong to.
    pub(super) async fn provisioner_for(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Provisioner, EnvironmentError> {
        if self.spawned(user_id).is_none() {
            return Ok(self.provisioner.clone());
        }
        let os_user = self.store.find_os_user(user_id).await;
        let os_user = os_user.map_err(|error| unavailable("store", error))?;
        Ok(owned_by(self.provisioner.clone(), os_user))
    }

    /// That somebody uses their cell, for as long as it is held.
    pub(super) fn in_use(&self, user_id: &Arc<str>) -> Option<Arc<InUse>> {
        self.spawned(user_id)?.enter(user_id).map(Arc::new)
    }

    /// Somebody's cell does something for them now, perhaps while nobody is connected to it.
    pub(super) fn touch(&self, user_id: &Arc<str>) {
        if let Some(cells) = &self.cells {
            cells.touch(user_id);
        }
    }

    /// A provisioner of directories that belong to whom a cell runs as.
    pub(super) fn owned_by_cell(
        &self,
        provisioner: Provisioner,
        upstream: &Upstream,
    ) -> Provisioner {
        let cells = self.cells.as_ref().filter(|_| is_spawned(&upstream.name));
        let os_user = cells.and_then(|cells| cells.os_user(upstream.owner.as_ref()?));
        owned_by(provisioner, os_user)
    }
}

fn owned_by(provisioner: Provisioner, os_user: Option<u32>) -> Provisioner {
    let owner = os_user.and_then(|user| Owner::new(user, user).ok());
    match owner {
        Some(owner) => provisioner.owner(owner),
        None => provisioner,
    }
}
