use std::{fmt, sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use super::{
    answer::unreadable,
    ask::Ask,
    builder::RedisStoreBuilder,
    decide::{Coming, Inner},
    epochs::Epochs,
    members::RedisMembers,
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

    /// Counts what was used by what the ticket names, in the windows of its admission, whatever the limits, and once: if it
    /// counted before, also as a settlement, it is [`Settled::AlreadySettled`].
    ///
    /// It is for a settlement that is [forgotten](Settled::Forgotten), and for what was let through without a reservation,
    /// under a ticket of one's own. Windows that are over are not counted. It is remembered for a day.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer in time, or if it has [lost](Self::lost) its counters.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, it may count or not. It can be repeated.
    pub async fn count(&self, ticket: &Ticket, used: Amounts) -> Result<Settled, StoreError> {
        self.count_in(ticket, used, None).await
    }

    /// Whether the server has lost the counters that this store knew, by the latest decision. Until somebody
    /// [reseeds](Self::reseed) it, all decisions are errors.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.0.epoch.is_lost()
    }

    /// Who counts together in this store, and how far they have come. If all have counted for the epoch that is to come, it
    /// begins.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer within two seconds.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the epoch may begin or not; asking again begins it.
    pub async fn members(&self) -> Result<RedisMembers, StoreError> {
        let epochs = &self.0.epochs;
        let mut members = epochs.members().await?;
        if let Some(coming) = members.ready() {
            // If it is another one by now, others have seen to it.
            epochs.publish(coming).await?;
            members = epochs.members().await?;
        }
        // Whether it is lost is not an error here.
        let _ = epochs.look(&self.0.epoch).await;
        Ok(members)
    }

    /// Goes by the present epoch from now on, if `member` has counted for it: decisions are errors until it does, where the
    /// store was told to [await reseeding](RedisStoreBuilder::await_reseeding), and again after each connection that was lost. Any
    /// other store goes by a new epoch as soon as
    /// it sees it. Whether `member` has.
    #[must_use]
    pub fn go_by(&self, members: &RedisMembers, member: &str) -> bool {
        match members.present_epoch() {
            Some(epoch) if members.has_counted(member) => {
                if self.0.epoch.name() != epoch || !self.is_clustered() {
                    self.0.epoch.begin(epoch);
                }
                true
            }
            _ => false,
        }
    }

    /// Does not wait for `member` any more: its ledger is gone, or was taken over by another one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer within two seconds.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, it may be waited for or not. It can be repeated.
    pub async fn forget(&self, member: &str) -> Result<(), StoreError> {
        self.0.epochs.forget(member).await
    }

    /// Begins to count what a member's ledger says: for the present epoch, if `member` has not counted for it, or for the
    /// next one where there is none, with all others.
    ///
    /// It is for processes that each keep a ledger of their own: `member` is this one's name, `known` are the others that
    /// it knows of, since a server that has lost its counters has lost their names too. All are waited for, so each looks
    /// at the [members](Self::members) every second or so, and reseeds if it [has not counted](RedisMembers::has_counted)
    /// and does not [wait](RedisMembers::waits).
    ///
    /// Decisions are errors until an epoch begins. What was reserved in another one, and not settled, is settled as
    /// [`Settled::Forgotten`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer within two seconds, or if an epoch begins at the same moment.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, others may wait for `member`, until it reseeds or is
    /// [forgotten](Self::forget).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use tower_quota::{Amounts, RedisStore, StoreError, Ticket};
    /// # async fn reseed(store: RedisStore, ledger: Vec<(Ticket, Amounts)>) -> Result<(), StoreError> {
    /// if !store.members().await?.has_counted("gateway-1") {
    ///     let reseeding = store.reseed("gateway-1", &["gateway-2".to_owned()]).await?;
    ///     for (ticket, used) in &ledger {
    ///         reseeding.count(ticket, *used).await?;
    ///     }
    ///     reseeding.finish().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reseed(
        &self,
        member: &str,
        known: &[String],
    ) -> Result<RedisReseeding, StoreError> {
        RedisReseeding::begin(self.clone(), member, known).await
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

    pub(super) fn is_clustered(&self) -> bool {
        self.0.link.is_clustered()
    }

    pub(super) fn epochs(&self) -> &Epochs {
        &self.0.epochs
    }

    pub(super) async fn count_in(
        &self,
        ticket: &Ticket,
        used: Amounts,
        coming: Option<&Coming>,
    ) -> Result<Settled, StoreError> {
        let inner = &self.0;
        let subject = ticket.subject();
        let family = inner.names.family(subject);
        let at = UnixMs::from(ticket.admitted_at());
        let until = inner.until();
        let counted = inner.decide(&inner.scripts.count, subject, until, coming, |stamp| {
            Ask::count(&family, subject, at, used, &stamp.known).naming(ticket.id())
        });
        Ok(match &*counted.await?.word {
            "settled" => Settled::AlreadySettled,
            _ => Settled::Applied { overshoot: used },
        })
    }

    pub(super) async fn hold_in(
        &self,
        ticket: &Ticket,
        held: Amounts,
        coming: &Coming,
    ) -> Result<(), StoreError> {
        let inner = &self.0;
        let subject = ticket.subject();
        let family = inner.names.family(subject);
        let at = UnixMs::from(ticket.admitted_at());
        let (script, until) = (&inner.scripts.hold, inner.until());
        let held = inner.decide(script, subject, until, Some(coming), |stamp| {
            let ask = Ask::count(&family, subject, at, held, &stamp.known);
            ask.naming(ticket.id()).leasing(inner.lease)
        });
        held.await.map(drop)
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
