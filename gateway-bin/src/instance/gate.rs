//! When the instance's configuration may change.
//!
//! A change that comes while OpenClaw prepares a run ends that run with an error (2026.9.6: "prepared model runtime
//! plugin generation was superseded"), whosever run it is. So agents are made while no run is being prepared, and a run
//! that comes meanwhile waits until the agents are made.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::timeout;

/// How long a change waits for runs that are being prepared; the first run of a new agent takes up to 18 s. One that
/// takes longer hangs, and must not keep everybody who is new out.
const PATIENCE: Duration = Duration::from_secs(25);

/// The gate of one instance; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    lock: Arc<RwLock<()>>,
    preparing: Arc<Mutex<HashMap<Arc<str>, OwnedRwLockReadGuard<()>>>>,
}

// === impl Gate ===

impl Gate {
    /// Whether a run of `user_id` may be prepared now; if so, it is.
    #[must_use]
    pub fn try_enter(&self, user_id: &Arc<str>) -> bool {
        match Arc::clone(&self.lock).try_read_owned() {
            Ok(guard) => {
                self.hold(user_id, guard);
                true
            }
            Err(_) => false,
        }
    }

    /// Waits until a run of `user_id` may be prepared.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing was entered.
    pub fn enter(&self, user_id: &Arc<str>) -> impl Future<Output = ()> + Send + use<> {
        let (gate, user_id) = (self.clone(), Arc::clone(user_id));
        async move {
            let guard = Arc::clone(&gate.lock).read_owned().await;
            gate.hold(&user_id, guard);
        }
    }

    /// The runs of `user_id` are prepared: a model was called, or they are over.
    pub fn leave(&self, user_id: &Arc<str>) {
        self.preparing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(user_id);
    }

    /// Waits until nothing is being prepared, and keeps it so while the guard lives; `None`: something is prepared for
    /// too long, and the change must not wait for it any more.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it waits no more.
    pub async fn change(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        timeout(PATIENCE, Arc::clone(&self.lock).write_owned())
            .await
            .ok()
    }

    /// One guard for each user: who asks for a second run while the first is being prepared is covered by it.
    fn hold(&self, user_id: &Arc<str>, guard: OwnedRwLockReadGuard<()>) {
        let mut preparing = self
            .preparing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        preparing.insert(Arc::clone(user_id), guard);
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_for_runs_that_are_being_prepared_and_runs_wait_for_it() {
        let gate = Gate::default();
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        assert!(gate.try_enter(&alice) && gate.try_enter(&bob) && gate.try_enter(&alice));
        let mut change = task::spawn(gate.change());
        assert_pending!(change.poll());
        gate.leave(&alice);
        assert_pending!(change.poll(), "bob's is still being prepared");
        gate.leave(&bob);
        let guard = assert_ready!(change.poll());
        assert!(guard.is_some());
        assert!(!gate.try_enter(&alice), "not while it changes");
        let mut entering = task::spawn(gate.enter(&alice));
        assert_pending!(entering.poll());
        drop(guard);
        assert_ready!(entering.poll());
        let mut next = task::spawn(gate.change());
        assert_pending!(next.poll(), "alice's is being prepared again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_hangs_does_not_keep_newcomers_out() {
        let gate = Gate::default();
        assert!(gate.try_enter(&"alice".into()));
        assert!(gate.change().await.is_none(), "after some patience");
    }
}
