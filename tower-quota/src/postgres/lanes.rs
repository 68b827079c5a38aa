use std::{collections::hash_map::RandomState, hash::BuildHasher};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Where those wait who ask about one family, since the server answers them one after the other. Connections are left for
/// other families that way, also when this one's row is locked. Families that fall into the same lane share it.
pub(super) struct Lanes {
    lanes: Box<[Semaphore]>,
    hasher: RandomState,
}

const LANES: u64 = 256;

/// How many ask at once: the next is there when one is answered.
const ABREAST: usize = 2;

// === impl Lanes ===

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            lanes: (0..LANES).map(|_| Semaphore::new(ABREAST)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// `None` never is: no lane is closed.
    pub(super) async fn wait(&self, root: &str) -> Option<SemaphorePermit<'_>> {
        // Any bits of a hash will do.
        let lane = (self.hasher.hash_one(root) % LANES) as usize;
        self.lanes.get(lane)?.acquire().await.ok()
    }
}
