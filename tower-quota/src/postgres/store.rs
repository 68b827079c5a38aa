use std::{fmt, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    ids::Ids,
    question::{self, Text},
    server::Server,
    statements::{RELEASE, RENEW, SWEEP},
    sweep::Sweep,
};
use crate::{
    Amounts, Charge, Clock, Granted, Plans, QuotaStore, Released, Renewed, ReserveError, Settled,
    Standing, StoreError, StoreFuture, Subject, Terms, Ticket, remote::Known,
};

#[doc = include_str!("store.md")]
#[derive(Clone)]
pub struct PostgresStore {
    pub(super) server: Server,
    pub(super) known: Arc<Known>,
    pub(super) ids: Arc<Ids>,
    sweep: Arc<Sweep>,
    /// Who gives back what was not answered.
    pub(super) regrets: Arc<Semaphore>,
    pub(super) lease: Duration,
    pub(super) clock: Option<Arc<dyn Clock>>,
}

const DEFAULT_LEASE: Duration = Duration::from_secs(15 * 60);

/// How many reservations that were not answered are given back at the same time.
const REGRETS: usize = 1_000;

/// How many looks for what is forgotten there are in a row.
const SWEEPS: usize = 100;

// === impl PostgresStore ===

impl PostgresStore {
    /// Connects to the database that the URL names (`postgres://…`), and makes what is missing there. Every subject has
    /// the limits of its plan, unless it is given its own: `plans` are [`Plans`], or the [`Limits`](crate::Limits) of
    /// all.
    ///
    /// Several servers may do so at once. Once everything is there, it takes only the rights to use it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the URL is none, the server does not answer within ten seconds or lets nobody in, or the
    /// tables and functions cannot be made. Its source says why; no password is in it.
    pub async fn connect(url: &str, plans: impl Into<Plans>) -> Result<Self, StoreError> {
        let (server, database) = Server::connect(url).await?;
        Ok(Self {
            server,
            known: Arc::new(Known::new(plans.into())),
            ids: Arc::new(Ids::new(database)),
            sweep: Arc::new(Sweep::new()),
            regrets: Arc::new(Semaphore::new(REGRETS)),
            lease: DEFAULT_LEASE,
            clock: None,
        })
    }

    /// The same store, whose reservations are reclaimed after `lease` unless they are renewed. The default is 15
    /// minutes.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The same store, which answers within `timeout` from the first poll on, or with a [`StoreError`]: the wait for a
    /// connection, making one, and asking again are all part of it. The default is 250 milliseconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.server = self.server.with_timeout(timeout);
        self
    }

    /// The same store with this many connections at most, and one at least. The default is 8.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.server = self.server.with_connections(connections);
        self
    }

    /// The same store, which tells the time by `clock`, for tests. The default is the database's clock, on which all
    /// who use it agree.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Counts what was used by what the ticket names, in the windows of its admission, whatever the limits, and once: if it
    /// counted before, also as a settlement, it is [`Settled::AlreadySettled`].
    ///
    /// It is for a settlement that is [forgotten](Settled::Forgotten), for what was let through without a reservation, and
    /// for what a ledger says when a database begins, under tickets of one's own. Windows that are over are not counted. It
    /// is remembered for a day.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, it may count or not. It can be repeated.
    pub async fn count(&self, ticket: &Ticket, used: Amounts) -> Result<Settled, StoreError> {
        self.count_now(ticket, used).await
    }

    /// Which database it is: another one has other counters.
    #[must_use]
    pub fn database(&self) -> u32 {
        self.ids.database()
    }

    /// Removes some of what is forgotten and of nobody's interest, and says of how much. The store does so by itself
    /// every ten seconds while it is asked for reservations; it is for who wants it sooner.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, it may be removed or not.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let deadline = self.server.deadline();
        let answer = self.ask(SWEEP, deadline, Text::new()).await?;
        Ok(answer.swept)
    }

    /// Looks for what is forgotten, if it is time.
    fn sweep_sometimes(&self) {
        if self.sweep.is_due() {
            let store = self.clone();
            tokio::spawn(async move {
                for _ in 0..SWEEPS {
                    if !store.sweep().await.is_ok_and(|swept| swept > 0) {
                        return;
                    }
                }
            });
        }
    }
}

impl QuotaStore for PostgresStore {
    fn reserve(&self, charge: &Charge) -> StoreFuture<Result<Granted, ReserveError>> {
        let (store, charge) = (self.clone(), charge.clone());
        StoreFuture::boxed(async move {
            let decision = store.decide(&charge).await;
            store.sweep_sometimes();
            decision
        })
    }

    fn settle(&self, ticket: &Ticket, used: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
        if !self.ids.are_of(ticket.id()) {
            return StoreFuture::ready(Ok(Settled::Unknown));
        }
        let (store, ticket) = (self.clone(), ticket.clone());
        StoreFuture::boxed(async move { store.settle_now(&ticket, used).await })
    }

    fn release(&self, ticket: &Ticket) -> StoreFuture<Result<Released, StoreError>> {
        if !self.ids.are_of(ticket.id()) {
            return StoreFuture::ready(Ok(Released::NotHeld));
        }
        let (store, question) = (self.clone(), question::ticket(ticket));
        StoreFuture::boxed(async move {
            let deadline = store.server.deadline();
            let answer = store.ask(RELEASE, deadline, question).await?;
            Ok(match answer.is_held {
                true => Released::Applied,
                false => Released::NotHeld,
            })
        })
    }

    fn abandon(&self, ticket: &Ticket) {
        // Without a runtime there is nobody to do it, and the lease does.
        if let Ok(runtime) = Handle::try_current() {
            let released = self.release(ticket);
            runtime.spawn(async move { drop(released.await) });
        }
    }

    fn renew(&self, ticket: &Ticket) -> StoreFuture<Result<Renewed, StoreError>> {
        if !self.ids.are_of(ticket.id()) {
            return StoreFuture::ready(Ok(Renewed::NotHeld));
        }
        let (store, mut question) = (self.clone(), question::ticket(ticket));
        question.insert("lease".into(), whole_ms(self.lease).into());
        StoreFuture::boxed(async move {
            let deadline = store.server.deadline();
            let answer = store.ask(RENEW, deadline, question).await?;
            Ok(match answer.is_held {
                true => Renewed::Applied,
                false => Renewed::NotHeld,
            })
        })
    }

    fn standings(&self, subject: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>> {
        let (store, subject) = (self.clone(), subject.clone());
        StoreFuture::boxed(async move { store.stand(subject).await })
    }

    fn terms(&self, subject: &Subject) -> StoreFuture<Result<Terms, StoreError>> {
        let (store, subject) = (self.clone(), subject.clone());
        StoreFuture::boxed(async move { store.find_terms(&subject).await })
    }

    fn set_terms(&self, subject: &Subject, terms: Terms) -> StoreFuture<Result<bool, StoreError>> {
        let (store, subject) = (self.clone(), subject.clone());
        StoreFuture::boxed(async move { store.change_terms(&subject, terms).await })
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("plans", self.known.plans())
            .field("lease", &self.lease)
            .field("timeout", &self.server.timeout)
            .field("connections", &self.server.open_connections())
            .finish_non_exhaustive()
    }
}

/// As a bigint that can be added to any moment.
pub(super) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .min(u64::MAX >> 16)
}
