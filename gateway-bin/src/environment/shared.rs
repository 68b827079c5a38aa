//! What everybody's environments have in common.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;
use tower_workspace::fs::Provisioner;

use super::known::Open;
use crate::cells::Cells;
use crate::config::Affinity;
use crate::egress::VirtualKeys;
use crate::instance::{Upstream, Upstreams};
use crate::store::Store;

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) provisioner: Provisioner,
    /// Those for instances that see the root elsewhere, by where.
    pub(super) elsewhere: std::sync::Mutex<HashMap<PathBuf, Provisioner>>,
    pub(super) keys: VirtualKeys,
    pub(super) upstreams: Upstreams,
    pub(super) affinity: Affinity,
    pub(super) cells: Option<Cells>,
    /// Environments that were opened since the start.
    pub(super) open: RwLock<HashMap<Arc<str>, Open>>,
    /// Environments that are being opened: one at a time for each user.
    pub(super) opening: std::sync::Mutex<HashMap<Arc<str>, Arc<Mutex<()>>>>,
}

// === impl Shared ===

impl Shared {
    /// The provisioner of the directories of those who work on an instance.
    pub(super) fn provisioner_of(&self, upstream: &Upstream) -> Provisioner {
        self.owned_by_cell(self.provisioner_at(upstream), upstream)
    }

    /// The provisioner for where an instance sees the root.
    fn provisioner_at(&self, upstream: &Upstream) -> Provisioner {
        let Some(root) = &upstream.workspace_root else {
            return self.provisioner.clone();
        };
        let mut elsewhere = self
            .elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let provisioner = elsewhere.entry(root.clone());
        let provisioner =
            provisioner.or_insert_with(|| self.provisioner.clone().instance_root(root));
        provisioner.clone()
    }
}
