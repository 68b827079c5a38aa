use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{
    decide::{Doubting, Inner, REGRETS, Remembered},
    epochs::{Epochs, Watch},
    link::Link,
    names::Names,
    scripts::Scripts,
    store::RedisStore,
};
use crate::{Clock, Plans, StoreError};

/// How a [`RedisStore`] is to be: see its [`builder`](RedisStore::builder).
#[derive(Clone)]
pub struct RedisStoreBuilder {
    plans: Plans,
    prefix: Box<str>,
    lease: Duration,
    timeout: Duration,
    clock: Option<Arc<dyn Clock>>,
    begins: bool,
    may_evict: bool,
}

const DEFAULT_LEASE: Duration = Duration::from_secs(15 * 60);

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(250);

/// In milliseconds. What scripts compute with is exact up to 2^53.
const LONGEST_LEASE: u64 = 1 << 50;

/// The one policy under which no counter is thrown away.
const KEEPS_ALL: &str = "noeviction";

// === impl RedisStoreBuilder ===

impl RedisStoreBuilder {
    pub(super) fn new(plans: Plans) -> Self {
        Self {
            plans,
            prefix: "quota".into(),
            lease: DEFAULT_LEASE,
            timeout: DEFAULT_TIMEOUT,
            clock: None,
            begins: true,
            may_evict: false,
        }
    }

    /// What all keys begin with. The default is `quota`. Stores with the same prefix on the same server are one store, and
    /// of others none may begin with this one and a colon. Braces and `%` in it are percent-encoded.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Reservations are reclaimed after `lease` unless they are renewed. The default is 15 minutes.
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long a decision may take, from the call to the answer, everything included; then it is a
    /// [`StoreError`]. The default is 250 milliseconds.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Tells the time by `clock`. The default is the server's own clock, which is the same for all who ask it: another
    /// one is for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Takes a server without an epoch for one that has lost its counters, and not for a new one: it stays closed until
    /// somebody [reseeds](RedisStore::reseed) it. It is for those who keep a ledger, in all processes.
    #[must_use]
    pub const fn await_reseeding(mut self) -> Self {
        self.begins = false;
        self
    }

    /// Puts up with a server that throws keys away when its memory is full, and so forgets what was used.
    #[must_use]
    pub const fn allow_eviction(mut self) -> Self {
        self.may_evict = true;
        self
    }

    /// Connects to the server that the URL names: `redis://` or `rediss://` for TLS, with user and password or without,
    /// `redis-cluster://` or `rediss-cluster://` for a Cluster, `redis-sentinel://` for one that sentinels name.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the URL is none, if the server does not answer within five seconds, or if it says that its
    /// `maxmemory-policy` is not `noeviction` and that is not [allowed](Self::allow_eviction).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the server may have an epoch and nothing else; connecting again finds
    /// it.
    pub async fn connect(self, url: &str) -> Result<RedisStore, StoreError> {
        let link = Link::connect(url).await?;
        let eviction_policy = link.eviction_policy().await;
        if let Some(policy) = &eviction_policy
            && policy != KEEPS_ALL
            && !self.may_evict
        {
            return Err(StoreError::new(format!(
                "Redis throws counters away when its memory is full: its maxmemory-policy is {policy}, \
                 not {KEEPS_ALL}"
            )));
        }
        let (link, names) = (Arc::new(link), Names::new(&self.prefix));
        let epochs = Arc::new(Epochs::new(Arc::clone(&link), &names));
        let epoch = Arc::new(epochs.at_connection(self.begins).await?);
        let doubted = Arc::clone(&epoch);
        let doubting = link.when_disconnected(move || doubted.doubt());
        Ok(RedisStore::new(Inner {
            regrets: Arc::new(Semaphore::new(REGRETS)),
            _doubting: Doubting(doubting),
            watch: (link.is_clustered())
                .then(|| Watch::begin(Arc::clone(&epochs), Arc::clone(&epoch))),
            link,
            names,
            scripts: Scripts::new(),
            epochs,
            known: Mutex::new(Remembered::new(epoch.name(), self.plans)),
            epoch,
            lease: u64::try_from(self.lease.as_millis())
                .unwrap_or(u64::MAX)
                .min(LONGEST_LEASE),
            timeout: self.timeout,
            clock: self.clock,
            eviction_policy: eviction_policy.map(Box::from),
        }))
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("plans", &self.plans)
            .field("prefix", &self.prefix)
            .field("lease", &self.lease)
            .field("timeout", &self.timeout)
            .field("begins", &self.begins)
            .field("may_evict", &self.may_evict)
            .finish_non_exhaustive()
    }
}
