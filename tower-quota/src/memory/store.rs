use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{
    Amounts, Charge, Clock, Granted, Plans, QuotaStore, Released, Renewed, ReserveError, Settled,
    Standing, SteadyClock, StoreError, StoreFuture, Subject, Terms, Ticket,
    memory::{family::Family, shard::Shard},
    unix_ms::UnixMs,
};

/// Enough that the threads of one machine seldom meet; a power of two.
const SHARDS: u64 = 64;

const DEFAULT_LEASE: Duration = Duration::from_secs(15 * 60);

/// A [`QuotaStore`] in this process's memory.
///
/// Subjects are spread over 64 locks, by their outermost parents, each held for one decision and never across an
/// await; a decision allocates nothing once the subject and its parents are known. Nothing survives the process: a
/// server that keeps a ledger counts it again with [`add_used`](Self::add_used) when it starts, and tickets of an
/// earlier process are [unknown](Settled::Unknown) to it.
///
/// # Memory
///
/// A subject takes about a kilobyte from its first use until a day after the last month in which it used anything, or
/// for as long as it has limits of its own. Of reservations that are over, a subject keeps the last 64 that were
/// settled, so that a second settlement is [known as one](Settled::AlreadySettled), and the last 1,024 of the last 24
/// hours that were given back or reclaimed, so that a late settlement counts. A settlement of one beyond that is
/// [`Settled::Forgotten`] and counts nothing: nothing ever counts twice.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_quota::{Dimension, Limit, Limits, MemoryStore, Window};
///
/// let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 1_000)])?;
/// let store = MemoryStore::new(plan).lease(Duration::from_secs(60));
/// # let _ = store;
/// # Ok::<(), tower_quota::DuplicateLimit>(())
/// ```
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    life: u64,
    plans: Plans,
    lease: Duration,
    clock: Arc<dyn Clock>,
}

// === impl MemoryStore ===

impl MemoryStore {
    /// An empty store in which every subject has the limits of its plan, unless it is given its own: `plans` are
    /// [`Plans`], or the [`Limits`](crate::Limits) of all.
    #[must_use]
    pub fn new(plans: impl Into<Plans>) -> Self {
        let hasher = RandomState::new();
        Self {
            shards: (0..SHARDS)
                .map(|n| Mutex::new(Shard::new(n, SHARDS)))
                .collect(),
            // Tells this store's tickets from those of an earlier process: a seeded hasher is std's source of chance.
            life: hasher.hash_one("life"),
            hasher,
            plans: plans.into(),
            lease: DEFAULT_LEASE,
            clock: Arc::new(SteadyClock::new()),
        }
    }

    /// The same store, whose reservations are reclaimed after `lease` unless they are renewed. The default is 15 minutes.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The same store, which tells the time by `clock`. The default is a [`SteadyClock`].
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Counts what `subject` used without a reservation, in the windows of `admitted_at`, whatever its limits.
    ///
    /// It is for what a ledger says when a server starts, and for a settlement that is
    /// [forgotten](Settled::Forgotten). Windows that are over are not counted. Each call counts: whoever calls twice
    /// counts twice.
    pub fn add_used(&self, subject: &Subject, admitted_at: SystemTime, used: Amounts) {
        let now = self.now();
        let admitted_at = UnixMs::from(admitted_at);
        self.shard(subject)
            .with_family(subject.root(), now, |family| {
                family.add_used(subject, admitted_at, used, &self.plans, now);
            });
    }

    fn now(&self) -> UnixMs {
        UnixMs::from(self.clock.now())
    }

    fn shard(&self, subject: &Subject) -> MutexGuard<'_, Shard> {
        // Any bits of a hash will do.
        self.shard_at(self.hasher.hash_one(subject.root()))
    }

    /// The shard of whatever leaves this remainder: a hash, or a sequence number that the shard gave out.
    fn shard_at(&self, number: u64) -> MutexGuard<'_, Shard> {
        #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
        let shard = &self.shards[(number % SHARDS) as usize];
        // A shard is never left half changed: nothing done under its lock panics.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` on the family and sequence number that the ticket names, if this store issued it.
    fn with_ticket<T>(
        &self,
        ticket: &Ticket,
        change: impl FnOnce(&mut Family, u64) -> T,
    ) -> Option<T> {
        let sequence = self.sequence_of(ticket)?;
        let mut shard = self.shard_at(sequence);
        let family = shard.family(ticket.subject().root())?;
        Some(change(family, sequence))
    }

    fn ticket(&self, sequence: u64, subject: &Subject, now: UnixMs) -> Ticket {
        let id = u128::from(self.life) << 64 | u128::from(sequence);
        Ticket::at(id, subject.clone(), now)
    }

    fn sequence_of(&self, ticket: &Ticket) -> Option<u64> {
        let sequence = ticket.id() ^ u128::from(self.life) << 64;
        u64::try_from(sequence).ok()
    }

    fn settle_now(&self, ticket: &Ticket, used: Amounts) -> Settled {
        let now = self.now();
        let Some(sequence) = self.sequence_of(ticket) else {
            return Settled::Unknown;
        };
        let mut shard = self.shard_at(sequence);
        if !shard.has_given_out(sequence) {
            return Settled::Unknown;
        }
        let subject = ticket.subject();
        match shard.family(subject.root()) {
            Some(family) => family.settle(subject, sequence, used, now),
            None => Settled::Forgotten,
        }
    }

    fn release_now(&self, ticket: &Ticket) -> Released {
        let now = self.now();
        self.with_ticket(ticket, |family, sequence| {
            family.release(ticket.subject(), sequence, now)
        })
        .unwrap_or(Released::NotHeld)
    }
}

impl QuotaStore for MemoryStore {
    fn reserve(&self, charge: &Charge) -> StoreFuture<Result<Granted, ReserveError>> {
        let now = self.now();
        let lease_end = now.saturating_add(self.lease);
        let subject = charge.subject();
        let mut shard = self.shard(subject);
        let sequence = shard.next_sequence();
        let admitted = shard.with_family(subject.root(), now, |family| {
            family.reserve(sequence, charge, &self.plans, now, lease_end)
        });
        drop(shard);
        StoreFuture::ready(match admitted {
            Ok(held) => Ok(Granted::new(self.ticket(sequence, subject, now), held)),
            Err(denied) => Err(denied.into()),
        })
    }

    fn settle(&self, ticket: &Ticket, used: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
        StoreFuture::ready(Ok(self.settle_now(ticket, used)))
    }

    fn release(&self, ticket: &Ticket) -> StoreFuture<Result<Released, StoreError>> {
        StoreFuture::ready(Ok(self.release_now(ticket)))
    }

    fn abandon(&self, ticket: &Ticket) {
        self.release_now(ticket);
    }

    fn renew(&self, ticket: &Ticket) -> StoreFuture<Result<Renewed, StoreError>> {
        let now = self.now();
        let lease_end = now.saturating_add(self.lease);
        let renewed = self
            .with_ticket(ticket, |family, sequence| {
                family.renew(ticket.subject(), sequence, now, lease_end)
            })
            .unwrap_or(Renewed::NotHeld);
        StoreFuture::ready(Ok(renewed))
    }

    fn standings(&self, subject: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>> {
        let now = self.now();
        let mut shard = self.shard(subject);
        let standings = match shard.family(subject.root()) {
            Some(family) => family.standings(subject, &self.plans, now),
            None => Family::default().standings(subject, &self.plans, now),
        };
        StoreFuture::ready(Ok(standings))
    }

    fn terms(&self, subject: &Subject) -> StoreFuture<Result<Terms, StoreError>> {
        let mut shard = self.shard(subject);
        let family = shard.family(subject.root());
        let terms = family.map(|family| family.terms(subject));
        StoreFuture::ready(Ok(terms.unwrap_or_default()))
    }

    fn set_terms(&self, subject: &Subject, terms: Terms) -> StoreFuture<Result<bool, StoreError>> {
        let now = self.now();
        let mut shard = self.shard(subject);
        let set = shard.with_family(subject.root(), now, |family| {
            family.set_terms(subject, terms, &self.plans)
        });
        StoreFuture::ready(Ok(set))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("plans", &self.plans)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
