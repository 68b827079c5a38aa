use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use fred::types::scripts::Script;
use tokio::{runtime::Handle, time::Instant};

use super::{
    answer::{Answer, unreadable},
    ask::Ask,
    builder::RedisStoreBuilder,
    epoch::{Begun, Epoch, Lost, random, text_of},
    epochs::{Epochs, Watch},
    link::Link,
    names::Names,
    reseeding::RedisReseeding,
    scripts::Scripts,
};
use crate::{
    Amounts, Charge, Clock, Granted, Plans, QuotaStore, Released, Renewed, ReserveError, Settled,
    Standing, StoreError, StoreFuture, Subject, Terms, Ticket,
    remote::{Calendar, Known, terms_json},
    unix_ms::UnixMs,
};

#[doc = include_str!("docs.md")]
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

pub(super) struct Inner {
    pub(super) link: Arc<Link>,
    pub(super) names: Names,
    pub(super) scripts: Scripts,
    pub(super) epochs: Arc<Epochs>,
    pub(super) epoch: Arc<Epoch>,
    pub(super) known: Mutex<Remembered>,
    /// In milliseconds.
    pub(super) lease: u64,
    pub(super) timeout: Duration,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) eviction_policy: Option<Box<str>>,
    /// Looks at the epoch of a Cluster.
    pub(super) watch: Option<Watch>,
}

/// The terms that were learnt in one epoch: in the next one versions begin anew.
pub(super) struct Remembered {
    epoch: u32,
    known: Arc<Known>,
}

/// By what a question is asked.
pub(super) struct Stamp {
    calendar: Calendar,
    epoch: u32,
    known: Arc<Known>,
}

/// An epoch that is still to come, and what is known in it.
pub(super) struct Coming {
    pub(super) begun: Begun,
    pub(super) known: Arc<Known>,
}

/// How often the server is asked again that has other terms or another time than was thought.
const TRIES: u32 = 4;

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

// === impl Inner ===

impl Inner {
    /// When a decision that is asked for now has to be there.
    fn until(&self) -> Instant {
        Instant::now() + self.timeout
    }

    async fn reserve(&self, charge: &Charge, until: Instant) -> Result<Granted, ReserveError> {
        let subject = charge.subject();
        let family = self.names.family(subject);
        let random = random();
        let mut id = 0;
        let script = &self.scripts.reserve;
        let answer = self.decide(script, subject, until, None, |stamp| {
            id = self.id(stamp.epoch, random);
            let question = stamp.known.question(charge, stamp.calendar);
            let mut ask = Ask::reserve(&family, &question, id).leasing(self.lease);
            if self.clock.is_none() {
                // Where the client thinks that it is earlier than it is there, it is told and asks again.
                let left = until.saturating_duration_since(Instant::now());
                let latest = stamp.calendar.0.saturating_add(left);
                ask.latest = Some(latest.get());
            }
            ask
        });
        let answer = answer.await?;
        match &*answer.word {
            "admitted" => {
                let ticket = Ticket::new(id, subject.clone(), answer.now.system_time());
                Ok(Granted::new(ticket, answer.amounts()?))
            }
            "denied" => Err(answer.denied()?.into()),
            _ => Err(unreadable().into()),
        }
    }

    async fn release(&self, ticket: &Ticket, until: Instant) -> Result<Released, StoreError> {
        if !self.is_ours(ticket) {
            return Ok(Released::NotHeld);
        }
        let answer = self.ask_of(&self.scripts.release, ticket, until, |ask| ask);
        match &*answer.await?.word {
            "applied" => Ok(Released::Applied),
            "not held" => Ok(Released::NotHeld),
            _ => Err(unreadable()),
        }
    }

    async fn standings(
        &self,
        subject: Subject,
        until: Instant,
    ) -> Result<Vec<Standing>, StoreError> {
        let family = self.names.family(&subject);
        let script = &self.scripts.standings;
        let mut asked = None;
        let answer = self.decide(script, &subject, until, None, |stamp| {
            let level = stamp.known.level(subject.clone(), stamp.calendar);
            let ask = Ask::standings(&family, &subject, &level);
            asked = Some(level);
            ask
        });
        let answer = answer.await?;
        let level = asked.ok_or_else(unreadable)?;
        answer.counters()?.standings(&level, answer.now)
    }

    /// Asks about the reservation that the ticket names.
    async fn ask_of(
        &self,
        script: &Script,
        ticket: &Ticket,
        until: Instant,
        complete: impl Fn(Ask) -> Ask,
    ) -> Result<Answer, StoreError> {
        let subject = ticket.subject();
        let family = self.names.family(subject);
        let answer = self.decide(script, subject, until, None, |_| {
            complete(Ask::ticket(&family, subject, ticket.id()))
        });
        answer.await
    }

    /// Asks the server, and again if it has another time, other terms of one of those whom `subject` is part of, or
    /// another epoch.
    async fn decide(
        &self,
        script: &Script,
        subject: &Subject,
        until: Instant,
        coming: Option<&Coming>,
        mut ask: impl FnMut(&Stamp) -> Ask,
    ) -> Result<Answer, StoreError> {
        for _ in 0..TRIES {
            if self.link.is_clustered() && coming.is_none() && self.epoch.is_lost() {
                return Err(StoreError::new(Lost));
            }
            let now = self.clock.as_ref().map(|clock| UnixMs::from(clock.now()));
            let calendar = Calendar(now.unwrap_or_else(|| self.link.server_now()));
            let stamp = match coming {
                Some(Coming { begun, known }) => Stamp {
                    calendar,
                    epoch: begun.name,
                    known: Arc::clone(known),
                },
                None => self.stamp(calendar),
            };
            let mut ask = ask(&stamp);
            ask.now = now.map(UnixMs::get);
            ask.epoch = text_of(stamp.epoch);
            if coming.is_none() && !self.link.is_clustered() {
                ask.checks = true;
                ask.keys.push(self.epochs.key().to_owned());
            }
            // Strings and numbers always serialise.
            let args = vec![serde_json::to_string(&ask).unwrap_or_default()];
            let answer = self.link.ask(script, ask.keys, args, until).await?;
            match &*answer.word {
                "lost" => self.epoch.found(answer.epoch())?,
                "time" => {}
                "stale" => {
                    let mut chain: Vec<_> = subject.chain().map(Some).collect();
                    for (level, terms) in answer.stale()? {
                        let level = chain.get_mut(level).and_then(Option::take);
                        stamp.known.learn(level.ok_or_else(unreadable)?, terms);
                    }
                }
                _ => return Ok(answer),
            }
        }
        Err(StoreError::new("Redis' time or terms do not stay"))
    }

    fn stamp(&self, calendar: Calendar) -> Stamp {
        let epoch = self.epoch.name();
        let mut remembered = self.remembered();
        if remembered.epoch != epoch {
            *remembered = Remembered::new(epoch, remembered.known.plans().clone());
        }
        Stamp {
            calendar,
            epoch,
            known: Arc::clone(&remembered.known),
        }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        // Nothing done under the lock panics.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a reservation: of which store it is, of which epoch, and which one.
    fn id(&self, epoch: u32, number: u64) -> u128 {
        let mark = u128::from(self.names.mark());
        mark << 96 | u128::from(epoch) << 64 | u128::from(number)
    }

    fn is_ours(&self, ticket: &Ticket) -> bool {
        ticket.id() >> 96 == u128::from(self.names.mark())
    }
}

// === impl Remembered ===

impl Remembered {
    pub(super) fn new(epoch: u32, plans: Plans) -> Self {
        Self {
            epoch,
            known: Arc::new(Known::new(plans)),
        }
    }
}
