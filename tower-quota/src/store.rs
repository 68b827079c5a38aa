use crate::{
    Amounts, Charge, ReserveError, Standing, StoreError, StoreFuture, Subject, Terms, Ticket,
};

/// Where counters and reservations are kept.
///
/// Each method is one atomic step: no other caller, of this server or of another before the same store, sees half of
/// it. The laws that every store keeps are in the `laws` module, as functions to run against it.
///
/// A reservation is held under a lease. One that is neither settled nor released when its lease ends, because its
/// holder died, is reclaimed: what it held is free again. It can still be settled, since a settlement says what *was*
/// used.
///
/// # Errors
///
/// Every answer is a [`StoreError`] if the store cannot be asked. A store over a network gives it within a bound of
/// its own; the layer waits as long as the store does.
///
/// # Cancel safety
///
/// Each future may be dropped at any time. What a [`boxed`](StoreFuture::boxed) one has not begun does not happen;
/// what it has begun may happen or not, and nobody learns which. So a settlement is to be awaited, and repeated if it
/// was not: it counts once. A reservation that was made for nobody ends with its lease. What a
/// [`ready`](StoreFuture::ready) one says has happened, whether it is polled or not.
///
/// # Examples
///
/// A store that lets another one answer, and counts whom it refuses:
///
/// ```
/// use std::sync::{
///     Arc,
///     atomic::{AtomicU64, Ordering},
/// };
/// use tower_quota::{
///     Amounts, Charge, Granted, QuotaStore, Released, Renewed, ReserveError, Settled, Standing, StoreError,
///     StoreFuture, Subject, Terms, Ticket,
/// };
///
/// struct Counting<S> {
///     store: S,
///     refusals: Arc<AtomicU64>,
/// }
///
/// impl<S: QuotaStore> QuotaStore for Counting<S> {
///     fn reserve(&self, charge: &Charge) -> StoreFuture<Result<Granted, ReserveError>> {
///         let answer = self.store.reserve(charge);
///         let refusals = Arc::clone(&self.refusals);
///         StoreFuture::boxed(async move {
///             let answer = answer.await;
///             if let Err(ReserveError::Denied(_)) = answer {
///                 refusals.fetch_add(1, Ordering::Relaxed);
///             }
///             answer
///         })
///     }
///
///     fn settle(&self, ticket: &Ticket, used: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
///         self.store.settle(ticket, used)
///     }
///
///     fn release(&self, ticket: &Ticket) -> StoreFuture<Result<Released, StoreError>> {
///         self.store.release(ticket)
///     }
///
///     fn abandon(&self, ticket: &Ticket) {
///         self.store.abandon(ticket);
///     }
///
///     fn renew(&self, ticket: &Ticket) -> StoreFuture<Result<Renewed, StoreError>> {
///         self.store.renew(ticket)
///     }
///
///     fn standings(&self, subject: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>> {
///         self.store.standings(subject)
///     }
///
///     fn terms(&self, subject: &Subject) -> StoreFuture<Result<Terms, StoreError>> {
///         self.store.terms(subject)
///     }
///
///     fn set_terms(&self, subject: &Subject, terms: Terms) -> StoreFuture<Result<bool, StoreError>> {
///         self.store.set_terms(subject, terms)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` keeps no quota",
    note = "implement `tower_quota::QuotaStore`; `tower_quota::MemoryStore` is one, and a layer takes it in an `Arc`"
)]
pub trait QuotaStore: Send + Sync + 'static {
    /// Sets aside what `charge` demands, if every limit of its subject and of each of its parents leaves enough, and
    /// nothing otherwise.
    ///
    /// The sum of what is used and what is held is never above a limit at the moment of admission. A subject that was
    /// never seen has the limits of its plan from this, its first, request on.
    ///
    /// # Errors
    ///
    /// [`ReserveError::Denied`] if a limit does not leave enough, [`ReserveError::Unavailable`] if the store cannot
    /// be asked.
    fn reserve(&self, charge: &Charge) -> StoreFuture<Result<Granted, ReserveError>>;

    /// Replaces what the reservation holds by what was `used`, more or less.
    ///
    /// It counts in the windows of admission, also after a release or after the lease has ended, and it counts once.
    fn settle(&self, ticket: &Ticket, used: Amounts) -> StoreFuture<Result<Settled, StoreError>>;

    /// Gives back what the reservation holds, since nothing was used.
    fn release(&self, ticket: &Ticket) -> StoreFuture<Result<Released, StoreError>>;

    /// Gives back what the reservation holds, as soon as may be, without an answer.
    ///
    /// It is for `Drop` and never waits: a store over a network queues it, and the lease covers what is lost.
    fn abandon(&self, ticket: &Ticket);

    /// Begins the lease of a reservation anew, for a request that takes long.
    fn renew(&self, ticket: &Ticket) -> StoreFuture<Result<Renewed, StoreError>>;

    /// How each limit of `subject` stands, in the order of [`Plans::limits_of`](crate::Plans::limits_of), each with
    /// what is granted besides. Its parents' are asked for by themselves: see [`Subject::chain`].
    fn standings(&self, subject: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>>;

    /// What is special about `subject`.
    fn terms(&self, subject: &Subject) -> StoreFuture<Result<Terms, StoreError>>;

    /// Gives `subject` these terms, from the next request on, everywhere, and adds one to their version. `false`, and
    /// nothing changes, if they are not of the present version: somebody else has changed them meanwhile.
    fn set_terms(&self, subject: &Subject, terms: Terms) -> StoreFuture<Result<bool, StoreError>>;
}

/// What a store set aside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Granted {
    ticket: Ticket,
    held: Amounts,
}

// === impl Granted ===

impl Granted {
    /// The reservation named by `ticket` holds `held`.
    #[must_use]
    pub const fn new(ticket: Ticket, held: Amounts) -> Self {
        Self { ticket, held }
    }

    /// The name of the reservation.
    #[must_use]
    pub const fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// What it holds.
    #[must_use]
    pub const fn held(&self) -> Amounts {
        self.held
    }

    /// The name of the reservation, alone.
    #[must_use]
    pub fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

/// What became of a settlement. These four are all there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// It counts now.
    Applied {
        /// What was used beyond what was held at that moment. It is all of it if the lease had ended.
        overshoot: Amounts,
    },
    /// It counted before; nothing has changed.
    AlreadySettled,
    /// The store made the reservation and remembers it no longer, nor whether it was settled; nothing has changed.
    ///
    /// Whoever knows that this is the first settlement, such as a ledger that settles each of its records once, counts
    /// what was used by other means, such as `MemoryStore::add_used`. Whoever may be repeating a settlement leaves it:
    /// else it could count twice.
    Forgotten,
    /// The store never made the reservation, perhaps another did, such as that of an earlier process; nothing has
    /// changed, and nothing is to be done: it is not this store that counts it.
    Unknown,
}

/// What became of a release. These two are all there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Released {
    /// What was held is free again.
    Applied,
    /// There was nothing held under this ticket, or no longer; nothing has changed.
    NotHeld,
}

/// What became of a renewal. These two are all there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewed {
    /// The lease began anew.
    Applied,
    /// There is nothing held under this ticket, or no longer; nothing has changed.
    NotHeld,
}
