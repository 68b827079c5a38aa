use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
};

use tokio::sync::Notify;

use crate::Full;

/// What is on its way, shared by the ledger, its writer and its settler.
#[derive(Debug)]
pub(super) struct Backlog {
    capacity: usize,
    taken: AtomicUsize,
    owed: AtomicUsize,
    joins: AtomicUsize,
    writable: AtomicBool,
    settler_lost: AtomicBool,
    closing: AtomicBool,
    vacated: Notify,
    #[cfg(feature = "postgres")]
    shipping: AtomicBool,
    #[cfg(feature = "postgres")]
    ended: Notify,
    stored: Notify,
}

/// A record that is not finished: stored, and settled if there is a settler. Finished when dropped.
#[derive(Debug)]
pub(super) struct Owed {
    backlog: Arc<Backlog>,
    /// It holds a place; one that is read again after a crash does not.
    placed: bool,
}

// === impl Backlog ===

impl Backlog {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            taken: AtomicUsize::new(0),
            owed: AtomicUsize::new(0),
            joins: AtomicUsize::new(0),
            writable: AtomicBool::new(true),
            settler_lost: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            vacated: Notify::const_new(),
            #[cfg(feature = "postgres")]
            shipping: AtomicBool::new(false),
            #[cfg(feature = "postgres")]
            ended: Notify::const_new(),
            stored: Notify::const_new(),
        }
    }

    pub(super) fn take_place(&self) -> Result<(), Full> {
        // Taken before `closing` is looked at, so that whoever closes sees the place or its taker sees the closing.
        if !take(&self.taken, self.capacity) {
            return Err(Full::new());
        }
        if self.closing.load(SeqCst) {
            self.vacate();
            return Err(Full::new());
        }
        Ok(())
    }

    pub(super) fn vacate(&self) {
        give_back(&self.taken);
        if self.closing.load(SeqCst) {
            self.vacated.notify_waiters();
        }
    }

    pub(super) fn take_join(&self) -> bool {
        take(&self.joins, self.capacity)
    }

    pub(super) fn end_join(&self) {
        give_back(&self.joins);
    }

    pub(super) fn owed(&self) -> usize {
        self.owed.load(Relaxed)
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.writable.load(Relaxed) && !self.settler_lost.load(Relaxed)
    }

    /// Notes whether the last write succeeded; true if that changed.
    pub(super) fn set_writable(&self, writable: bool) -> bool {
        self.writable.swap(writable, Relaxed) != writable
    }

    /// Notes that the writer has ended: nothing is written any more, and nobody let in.
    pub(super) fn lose_writer(&self) {
        self.writable.store(false, Relaxed);
        self.closing.store(true, SeqCst);
    }

    /// Notes that the settler has ended; true the first time.
    pub(super) fn lose_settler(&self) -> bool {
        !self.settler_lost.swap(true, Relaxed)
    }

    /// Tells who ships that there is something.
    pub(super) fn notify_stored(&self) {
        self.stored.notify_one();
    }

    /// Waits until something was stored since it was last waited for.
    #[cfg(feature = "postgres")]
    pub(super) async fn stored(&self) {
        self.stored.notified().await;
    }

    /// Notes that somebody ships; false if somebody did already.
    #[cfg(feature = "postgres")]
    pub(super) fn begin_shipping(&self) -> bool {
        !self.shipping.swap(true, SeqCst)
    }

    #[cfg(feature = "postgres")]
    pub(super) fn end_shipping(&self) {
        self.shipping.store(false, SeqCst);
        self.ended.notify_waiters();
    }

    /// Waits until nobody ships.
    #[cfg(feature = "postgres")]
    pub(super) async fn shipping_ended(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if !self.shipping.load(SeqCst) {
                return;
            }
            ended.await;
        }
    }

    /// Lets nobody in any more and waits until the last place is vacated.
    pub(super) async fn close(&self) {
        self.closing.store(true, SeqCst);
        loop {
            let mut vacated = std::pin::pin!(self.vacated.notified());
            vacated.as_mut().enable();
            if self.taken.load(SeqCst) == 0 {
                return;
            }
            vacated.await;
        }
    }
}

fn take(counter: &AtomicUsize, capacity: usize) -> bool {
    counter
        .fetch_update(SeqCst, SeqCst, |n| (n < capacity).then_some(n + 1))
        .is_ok()
}

/// A counter stays at zero if more is given back than was taken.
fn give_back(counter: &AtomicUsize) {
    let _ = counter.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
}

// === impl Owed ===

impl Owed {
    /// A record whose place was taken before.
    pub(super) fn placed(backlog: &Arc<Backlog>) -> Self {
        Self::new(backlog, true)
    }

    /// A record that a crash left to be settled.
    pub(super) fn left_over(backlog: &Arc<Backlog>) -> Self {
        Self::new(backlog, false)
    }

    fn new(backlog: &Arc<Backlog>, placed: bool) -> Self {
        backlog.owed.fetch_add(1, Relaxed);
        Self {
            backlog: Arc::clone(backlog),
            placed,
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        give_back(&self.backlog.owed);
        if self.placed {
            self.backlog.vacate();
        }
    }
}
