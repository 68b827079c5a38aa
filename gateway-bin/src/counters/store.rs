use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tower_quota::{
    Amounts, Charge, Granted, MemoryStore, Plans, PostgresStore, QuotaStore, RedisStore, Released,
    Renewed, ReserveError, Settled, Standing, StoreError, StoreFuture, Subject, Terms, Ticket,
};

use crate::config;

/// Counters in Redis, else in Postgres, else in memory; clones share them.
///
/// While they do not say yet what the ledger says they decide nothing: every decision is a [`StoreError`].
#[derive(Clone)]
pub struct CounterStore {
    kept: Kept,
    state: Arc<State>,
    begun: Instant,
}

/// Where they are.
#[derive(Clone)]
pub(super) enum Kept {
    Memory(Arc<MemoryStore>),
    Postgres(Arc<PostgresStore>),
    Redis(RedisStore),
}

#[derive(Debug, Default)]
struct State {
    /// Whether what this gateway's ledger said when it was last looked at is in them.
    counted: AtomicBool,
    /// Up to which of its records.
    until: AtomicU64,
    /// Since when there is no answer, in milliseconds since `CounterStore` was made; zero if there is.
    silent_since: AtomicU64,
}

/// So long there may be no answer before they are said not to be ready: one that comes late is no outage.
const SILENCE: Duration = Duration::from_secs(2);

/// What this gateway used is not among the counters.
#[derive(Debug, thiserror::Error)]
#[error("the counters do not say yet what the ledger says")]
struct NotCounted;

// === impl CounterStore ===

impl CounterStore {
    /// Counters where the configuration says.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if Redis or Postgres cannot be connected to.
    pub async fn connect(
        store: &config::Store,
        plans: Plans,
        lease: Duration,
    ) -> Result<Self, StoreError> {
        let kept = if let Some(url) = &store.redis_url {
            let redis = RedisStore::builder(plans).lease(lease).await_reseeding();
            Kept::Redis(redis.connect(url.expose()).await?)
        } else if let Some(url) = &store.database_url {
            let postgres = PostgresStore::connect(url.expose(), plans).await?;
            Kept::Postgres(Arc::new(postgres.lease(lease)))
        } else {
            Kept::Memory(Arc::new(MemoryStore::new(plans).lease(lease)))
        };
        Ok(Self::new(kept))
    }

    /// Counters in this store in memory, for tests.
    #[cfg(test)]
    pub(super) fn in_memory(store: MemoryStore) -> Self {
        let own = Self::new(Kept::Memory(Arc::new(store)));
        own.has_counted(0);
        own
    }

    fn new(kept: Kept) -> Self {
        Self {
            kept,
            state: Arc::default(),
            begun: Instant::now(),
        }
    }

    /// Where they are: `redis`, `postgres` or `memory`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.kept {
            Kept::Memory(_) => "memory",
            Kept::Postgres(_) => "postgres",
            Kept::Redis(_) => "redis",
        }
    }

    /// Whether other gateways may use them too.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        !matches!(self.kept, Kept::Memory(_))
    }

    /// Whether they decide, and answered the last time.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let since = self.state.silent_since.load(Ordering::Acquire);
        let silence = self.elapsed().saturating_sub(since);
        self.are_counted() && (since == 0 || silence < SILENCE.as_millis() as u64)
    }

    /// Whether they say what the ledger says, and so decide.
    pub(super) fn are_counted(&self) -> bool {
        self.state.counted.load(Ordering::Acquire)
    }

    pub(super) const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Whether a record of the ledger was among what was counted of it as a whole.
    pub(super) fn have_counted(&self, number: Option<u64>) -> Result<bool, StoreError> {
        self.decides()?;
        let until = self.state.until.load(Ordering::Acquire);
        Ok(number.is_some_and(|number| number <= until))
    }

    /// Counts, once, what a record says that is settled under no reservation of theirs.
    pub(super) async fn count(&self, ticket: &Ticket, used: Amounts) -> Result<(), StoreError> {
        self.decides()?;
        match &self.kept {
            Kept::Memory(memory) => {
                memory.add_used(ticket.subject(), ticket.admitted_at(), used);
                Ok(())
            }
            Kept::Postgres(postgres) => self.told(postgres.count(ticket, used).await).map(drop),
            Kept::Redis(redis) => self.told(redis.count(ticket, used).await).map(drop),
        }
    }

    /// They say what the ledger said up to this record, and so decide.
    pub(super) fn has_counted(&self, number: u64) {
        self.state.until.store(number, Ordering::Release);
        self.state.counted.store(true, Ordering::Release);
    }

    /// They do not.
    pub(super) fn has_not_counted(&self) {
        self.state.counted.store(false, Ordering::Release);
    }

    /// Remembers whether there was an answer.
    pub(super) fn told<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.heard(answer.is_ok());
        answer
    }

    fn heard(&self, answered: bool) {
        let since = &self.state.silent_since;
        if answered {
            since.store(0, Ordering::Release);
        } else {
            // Of many it is the first that counts.
            let (set, read) = (Ordering::AcqRel, Ordering::Acquire);
            let _ = since.compare_exchange(0, self.elapsed(), set, read);
            metrics::counter!("gateway_quota_store_failures_total").increment(1);
        }
    }

    /// In milliseconds, from one on.
    fn elapsed(&self) -> u64 {
        let elapsed = self.begun.elapsed().as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX).max(1)
    }

    fn decides(&self) -> Result<(), StoreError> {
        match self.are_counted() {
            true => Ok(()),
            false => Err(StoreError::new(NotCounted)),
        }
    }

    fn store(&self) -> &dyn QuotaStore {
        match &self.kept {
            Kept::Memory(memory) => &**memory,
            Kept::Postgres(postgres) => &**postgres,
            Kept::Redis(redis) => redis,
        }
    }

    /// What becomes of an answer that comes over a network.
    fn watch<T: Send + 'static, E: Send + 'static>(
        &self,
        answer: StoreFuture<Result<T, E>>,
        is_silence: fn(&E) -> bool,
    ) -> StoreFuture<Result<T, E>> {
        let answer = match answer.try_ready() {
            Ok(answer) => return StoreFuture::ready(answer),
            Err(waiting) => waiting,
        };
        let own = self.clone();
        StoreFuture::boxed(async move {
            let asked = Instant::now();
            let answer = answer.await;
            metrics::histogram!("gateway_quota_store_seconds").record(asked.elapsed());
            own.heard(!answer.as_ref().is_err_and(is_silence));
            answer
        })
    }
}

fn any(_: &StoreError) -> bool {
    true
}

impl QuotaStore for CounterStore {
    fn reserve(&self, charge: &Charge) -> StoreFuture<Result<Granted, ReserveError>> {
        if let Err(error) = self.decides() {
            return StoreFuture::ready(Err(error.into()));
        }
        self.watch(self.store().reserve(charge), |error| {
            matches!(error, ReserveError::Unavailable(_))
        })
    }

    fn settle(&self, ticket: &Ticket, used: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
        if let Err(error) = self.decides() {
            return StoreFuture::ready(Err(error));
        }
        self.watch(self.store().settle(ticket, used), any)
    }

    fn release(&self, ticket: &Ticket) -> StoreFuture<Result<Released, StoreError>> {
        self.watch(self.store().release(ticket), any)
    }

    fn abandon(&self, ticket: &Ticket) {
        self.store().abandon(ticket);
    }

    fn renew(&self, ticket: &Ticket) -> StoreFuture<Result<Renewed, StoreError>> {
        self.watch(self.store().renew(ticket), any)
    }

    fn standings(&self, subject: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>> {
        if let Err(error) = self.decides() {
            return StoreFuture::ready(Err(error));
        }
        self.watch(self.store().standings(subject), any)
    }

    fn terms(&self, subject: &Subject) -> StoreFuture<Result<Terms, StoreError>> {
        self.watch(self.store().terms(subject), any)
    }

    fn set_terms(&self, subject: &Subject, terms: Terms) -> StoreFuture<Result<bool, StoreError>> {
        self.watch(self.store().set_terms(subject, terms), any)
    }
}

impl fmt::Debug for CounterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterStore")
            .field("kept", &self.name())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
