use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// When to look for what is forgotten.
pub(super) struct Sweep {
    begun: Instant,
    /// In seconds since then.
    due: AtomicU64,
}

/// How long to the next look.
const PAUSE: Duration = Duration::from_secs(10);

// === impl Sweep ===

impl Sweep {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            due: AtomicU64::new(PAUSE.as_secs()),
        }
    }

    /// Whether it is time, said to one of those who ask.
    pub(super) fn is_due(&self) -> bool {
        let now = self.begun.elapsed().as_secs();
        let due = self.due.load(Ordering::Relaxed);
        let next = now.saturating_add(PAUSE.as_secs());
        now >= due
            && self
                .due
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
