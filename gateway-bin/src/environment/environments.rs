use std::fmt;
use std::sync::{Arc, RwLock};

use tower_workspace::fs::Provisioner;
use tower_workspace::{ResolveFuture, Workspace, WorkspaceResolver};

use super::error::EnvironmentError;
use super::opening::Tools;
use super::shared::Shared;
use crate::cells::Cells;
use crate::config::Affinity;
use crate::egress::VirtualKeys;
use crate::instance::{Upstream, Upstreams};
use crate::store::Store;

/// Everybody's environments; clones share them.
#[derive(Clone)]
pub struct Environments {
    pub(super) shared: Arc<Shared>,
    /// How tools run of those who do not ask for anything.
    pub(super) tools: Tools,
}

// === impl Environments ===

impl Environments {
    /// The environments on these instances.
    #[must_use]
    pub fn new(
        store: Store,
        provisioner: Provisioner,
        keys: VirtualKeys,
        upstreams: Upstreams,
        affinity: Affinity,
    ) -> Self {
        Self::with_cells(store, provisioner, keys, upstreams, affinity, None)
    }

    /// The same, where whoever has no cell gets one of these, which are among the instances as long as they run.
    #[must_use]
    pub fn with_cells(
        store: Store,
        provisioner: Provisioner,
        keys: VirtualKeys,
        upstreams: Upstreams,
        affinity: Affinity,
        cells: Option<Cells>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                provisioner,
                elsewhere: std::sync::Mutex::default(),
                keys,
                upstreams,
                affinity,
                cells,
                open: RwLock::default(),
                opening: std::sync::Mutex::default(),
            }),
            tools: Tools::AsTheyWere,
        }
    }

    /// The same, where everybody's tools run in a sandbox from when they come next, or not at all.
    #[must_use]
    pub fn in_sandbox(self) -> Self {
        Self {
            tools: Tools::InSandbox,
            ..self
        }
    }

    /// Whether people can be sent somewhere: to a pool, or where there is none to a cell, also to one that has to be started.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        if self.shared.cells.is_some() {
            return true;
        }
        let pools = self.upstreams().pools();
        let upstreams = match pools.is_empty() {
            true => self.upstreams().all(),
            false => pools,
        };
        upstreams.iter().any(|upstream| upstream.is_ready())
    }

    /// Whether `user_id` can be sent somewhere.
    #[must_use]
    pub fn is_ready_for(&self, user_id: &str) -> bool {
        let cell = self.upstreams().cell_of(user_id);
        cell.is_some_and(|cell| cell.is_ready()) || self.is_ready()
    }

    /// The instances.
    #[must_use]
    pub fn upstreams(&self) -> &Upstreams {
        &self.shared.upstreams
    }

    /// The instance that somebody's workspace is on, if it is still there.
    #[must_use]
    pub fn upstream_of(&self, workspace: &Workspace) -> Option<Arc<Upstream>> {
        self.upstreams().get(workspace.instance()?)
    }

    /// The instance whose page somebody sees: the one that they have a place on, or else the first that would take them.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does nothing.
    pub async fn upstream_for(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Arc<Upstream>, EnvironmentError> {
        match self.shared.find_open(user_id) {
            Some(environment) => Ok(environment.upstream),
            None => {
                self.shared.wake(user_id)?;
                Ok(self.shared.route(user_id).await?.upstream)
            }
        }
    }

    /// The run of `user_id` that was being prepared is.
    pub fn run_prepared(&self, user_id: &Arc<str>) {
        if let Some(environment) = self.shared.find_whole(user_id) {
            environment.upstream.gate.leave(user_id);
        }
    }
}

impl fmt::Debug for Environments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environments")
            .field("upstreams", &self.shared.upstreams)
            .finish_non_exhaustive()
    }
}

impl WorkspaceResolver for Environments {
    fn resolve(&self, user_id: &Arc<str>) -> ResolveFuture {
        // Model calls of a cell come by here, too.
        self.shared.touch(user_id);
        if let Some(environment) = self.shared.find_whole(user_id) {
            return ResolveFuture::ready(Ok(environment.workspace));
        }
        let (shared, user_id) = (Arc::clone(&self.shared), Arc::clone(user_id));
        ResolveFuture::boxed(async move { shared.resolve_stored(&user_id).await })
    }
}
