use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    Amounts, Granted, QuotaStore, Released, Renewed, Settled, StoreError, StoreFuture, Ticket,
};

/// A handle to quota that is set aside for one request.
///
/// [`QuotaLayer`](crate::QuotaLayer) puts it into the request. Whoever learns what the request took
/// [settles](Self::settle) it, or [hands it over](Self::hand_over) to somebody who does so by its ticket. If the last
/// clone is dropped without that — the client left, a handler failed, nobody metered — what is held is given back and
/// nothing counts as used.
#[derive(Clone)]
pub struct Reservation(Arc<Held>);

struct Held {
    store: Arc<dyn QuotaStore>,
    granted: Granted,
    open: AtomicBool,
}

// === impl Reservation ===

impl Reservation {
    /// A handle to what `store` has `granted`.
    #[must_use]
    pub fn new(store: Arc<dyn QuotaStore>, granted: Granted) -> Self {
        Self(Arc::new(Held {
            store,
            granted,
            open: AtomicBool::new(true),
        }))
    }

    /// The name of the reservation.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        self.0.granted.ticket()
    }

    /// What was set aside, which may be less than the charge wanted.
    #[must_use]
    pub fn held(&self) -> Amounts {
        self.0.granted.held()
    }

    /// Replaces what is held by what was `used`, more or less.
    ///
    /// # Cancel safety
    ///
    /// From this call on, dropping the handle gives nothing back. Poll the future to its end: if it is dropped
    /// before, a store over a network may not have counted what was used. After an error, settle again; it counts once.
    pub fn settle(&self, used: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
        self.close();
        self.0.store.settle(self.ticket(), used)
    }

    /// Gives back what is held, and says whether it could.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the lease gives back what is held.
    pub fn release(&self) -> StoreFuture<Result<Released, StoreError>> {
        self.close();
        self.0.store.release(self.ticket())
    }

    /// Begins the lease anew, for a request that takes long.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the lease may or may not have begun anew.
    pub fn renew(&self) -> StoreFuture<Result<Renewed, StoreError>> {
        self.0.store.renew(self.ticket())
    }

    /// Leaves it to the caller to settle by the ticket: from now on, dropping the handle gives nothing back.
    #[must_use = "somebody has to settle by this ticket"]
    pub fn hand_over(&self) -> &Ticket {
        self.close();
        self.ticket()
    }

    fn close(&self) {
        // Relaxed: the count of the Arc orders this before the drop that reads it.
        self.0.open.store(false, Ordering::Relaxed);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("granted", &self.0.granted)
            .field("open", &self.0.open)
            .finish_non_exhaustive()
    }
}

// === impl Held ===

impl Drop for Held {
    fn drop(&mut self) {
        if *self.open.get_mut() {
            self.store.abandon(self.granted.ticket());
        }
    }
}
