use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{runtime::Handle, time::Instant};

use super::{
    answer::unreadable,
    ask::Ask,
    builder::RedisStoreBuilder,
    decide::{Coming, Inner},
    epoch::Epoch,
    epochs::Epochs,
    reseeding::RedisReseeding,
};
use crate::{
    Amounts, Charge, Granted, Plans, QuotaStore, Released, Renewed, ReserveError, Settled,
    Standing, StoreError, StoreFuture, Subject, Terms, Ticket, remote::terms_json, unix_ms::UnixMs,
};

#[doc = include_str!("docs.md")]
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

// === impl RedisStore ===

impl RedisStore {
    /// How a store is to be in which every subject has the limits of its plan, unless it is given its own: `plans` are
    /// [`Plans`], or the [`Limits`](crate::Limits) of all.
    #[must_use]
    pub fn builder(plans: impl Into<Plans>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(plans.into())
    }

    pub(super) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Counts what `subject` used without a reservation, in the windows of `admitted_at`, whatever its limits.
    ///
    /// It is for a settlement that is [forgotten](Settled::Forgotten). Windows that are over are not counted. Each call
    /// counts: whoever calls twice counts twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer in time, and then it is not known whether it counts; or if it has
    /// [lost](Self::lost) its counters, and then it does not.
    ///
    /// # Cancel safety
    ///
    /// None: if the future is dropped before its end, it is not known whether it counts.
    pub async fn add_used(
        &self,
        subject: &Subject,
        admitted_at: SystemTime,
        used: Amounts,
    ) -> Result<(), StoreError> {
        self.count(subject, admitted_at, used, None).await
    }

    /// Whether the server has lost the counters that this store knew, by the latest decision. Until somebody
    /// [reseeds](Self::reseed) it, all decisions are errors.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.0.epoch.is_lost()
    }

    /// Begins to count everything again, for a new epoch.
    ///
    /// It can be done at any time. What is reserved and not settled meanwhile, or was not settled when counters were lost,
    /// is of an earlier epoch: its settlement is [`Settled::Forgotten`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer within two seconds, or if somebody else is at it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, nobody may be able to reseed for a minute.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::time::SystemTime;
    /// # use tower_quota::{Amounts, RedisStore, StoreError, Subject};
    /// # async fn reseed(store: RedisStore, ledger: Vec<(Subject, SystemTime, Amounts)>) -> Result<(), StoreError> {
    /// if store.lost() {
    ///     let reseeding = store.reseed().await?;
    ///     for (subject, admitted_at, used) in &ledger {
    ///         reseeding.add_used(subject, *admitted_at, *used).await?;
    ///     }
    ///     reseeding.begin_epoch().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reseed(&self) -> Result<RedisReseeding, StoreError> {
        RedisReseeding::begin(self.clone()).await
    }

    /// What the server does with keys when its memory is full: `noeviction`, unless another policy is
    /// [allowed](RedisStoreBuilder::allow_eviction). `None`: it did not say, as those of some clouds do not; whoever runs
    /// it has to see to it.
    #[must_use]
    pub fn eviction_policy(&self) -> Option<&str> {
        self.0.eviction_policy.as_deref()
    }

    pub(super) fn plans(&self) -> Plans {
        self.0.remembered().known.plans().clone()
    }

    pub(super) fn epoch(&self) -> &Epoch {
        &self.0.epoch
    }

    pub(super) fn epochs(&self) -> &Epochs {
        &self.0.epochs
    }

    pub(super) async fn count(
        &self,
        subject: &Subject,
        admitted_at: SystemTime,
        used: Amounts,
        coming: Option<&Coming>,
    ) -> Result<(), StoreError> {
        let inner = &self.0;
        let (family, at) = (inner.names.family(subject), UnixMs::from(admitted_at));
        let until = inner.until();
        let counted = inner.decide(&inner.scripts.count, subject, until, coming, |stamp| {
            Ask::count(&family, subject, at, used, &stamp.known)
        });
        counted.await.map(drop)
    }

    pub(super) async fn set_terms_in(
        &self,
        subject: &Subject,
        terms: &Terms,
        coming: Option<&Coming>,
    ) -> Result<bool, StoreError> {
        let inner = &self.0;
        let family = inner.names.family(subject);
        let (version, json) = (terms.version(), terms_json(terms));
        let script = &inner.scripts.set_terms;
        let set = inner.decide(script, subject, inner.until(), coming, |_| {
            Ask::set_terms(&family, subject, version, json.clone())
        });
        Ok(set.await?.word == "set")
    }

    /// Runs `work` by the time that is left from now on.
    fn run<T, F>(&self, work: impl FnOnce(Arc<Inner>, Instant) -> F) -> StoreFuture<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        StoreFuture::boxed(work(Arc::clone(&self.0), self.0.until()))
    }
}

impl QuotaStore for RedisStore {
    fn reserve(&self, charge: &Charge) -> StoreFuture<Result<Granted, ReserveError>> {
        let charge = charge.clone();
        self.run(|inner, until| async move { inner.reserve(&charge, until).await })
    }

    fn settle(&self, ticket: &Ticket, used: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
        let ticket = ticket.clone();
        self.run(move |inner, until| async move {
            if !inner.is_ours(&ticket) {
                return Ok(Settled::Unknown);
            }
            let script = &inner.scripts.settle;
            let answer = inner.ask_of(script, &ticket, until, |ask| ask.using(used));
            let answer = answer.await?;
            match &*answer.word {
                "applied" => Ok(Settled::Applied {
                    overshoot: answer.amounts()?,
                }),
                "settled" => Ok(Settled::AlreadySettled),
                "forgotten" => Ok(Settled::Forgotten),
                _ => Err(unreadable()),
            }
        })
    }

    fn release(&self, ticket: &Ticket) -> StoreFuture<Result<Released, StoreError>> {
        let ticket = ticket.clone();
        self.run(|inner, until| async move { inner.release(&ticket, until).await })
    }

    fn abandon(&self, ticket: &Ticket) {
        // Without a runtime there is nobody to do it, and the lease covers it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.release(ticket));
        }
    }

    fn renew(&self, ticket: &Ticket) -> StoreFuture<Result<Renewed, StoreError>> {
        let ticket = ticket.clone();
        self.run(|inner, until| async move {
            if !inner.is_ours(&ticket) {
                return Ok(Renewed::NotHeld);
            }
            let (script, lease) = (&inner.scripts.renew, inner.lease);
            let answer = inner.ask_of(script, &ticket, until, |ask| ask.leasing(lease));
            match &*answer.await?.word {
                "applied" => Ok(Renewed::Applied),
                "not held" => Ok(Renewed::NotHeld),
                _ => Err(unreadable()),
            }
        })
    }

    fn standings(&self, subject: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>> {
        let subject = subject.clone();
        self.run(|inner, until| async move { inner.standings(subject, until).await })
    }

    fn terms(&self, subject: &Subject) -> StoreFuture<Result<Terms, StoreError>> {
        let subject = subject.clone();
        self.run(|inner, until| async move {
            let family = inner.names.family(&subject);
            let script = &inner.scripts.terms;
            let answer = inner.decide(script, &subject, until, None, |_| {
                Ask::terms(&family, &subject)
            });
            answer.await?.terms()
        })
    }

    fn set_terms(&self, subject: &Subject, terms: Terms) -> StoreFuture<Result<bool, StoreError>> {
        let (store, subject) = (self.clone(), subject.clone());
        StoreFuture::boxed(async move { store.set_terms_in(&subject, &terms, None).await })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("names", &self.0.names)
            .field("plans", &self.plans())
            .field("lease", &Duration::from_millis(self.0.lease))
            .field("timeout", &self.0.timeout)
            .field("watched", &self.0.watch.is_some())
            .finish_non_exhaustive()
    }
}
