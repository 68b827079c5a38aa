use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// For how long what a verifier decides holds together: until its keys or its settings change.
///
/// Each verifier has one, shared by its clones. A verdict belongs to the era, and to the number the
/// era had before its token was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Era(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    /// Tells the eras of this process apart.
    id: u64,
    number: AtomicU64,
}

// === impl Era ===

impl Era {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(Counter {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            number: AtomicU64::new(0),
        }))
    }

    /// Ends all verdicts that were made until now, also those whose token is being looked at.
    pub(crate) fn end(&self) {
        self.0.number.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    pub(super) fn number(&self) -> u64 {
        self.0.number.load(Ordering::SeqCst)
    }

    /// Whether both are the era of one verifier.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
