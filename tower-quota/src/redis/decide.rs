use std::{
    error::Error as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use fred::{error::Error, types::scripts::Script};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    answer::{Answer, unreadable},
    ask::Ask,
    epoch::{Begun, Epoch, Lost, random, text_of},
    epochs::{Epochs, Watch},
    link::Link,
    names::Names,
    scripts::Scripts,
};
use crate::{
    Charge, Clock, Granted, Plans, Released, ReserveError, Standing, StoreError, Subject, Ticket,
    remote::{Calendar, Known},
    unix_ms::UnixMs,
};

/// Asks the server to decide.
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
    /// Who gives back what was not answered.
    pub(super) regrets: Arc<Semaphore>,
    /// Notices when the server may be another one.
    pub(super) _doubting: Doubting,
    /// Looks at the epoch of a Cluster.
    pub(super) watch: Option<Watch>,
}

/// A task that notices when the server may be another one, until it is dropped.
pub(super) struct Doubting(pub(super) JoinHandle<()>);

/// The terms that were learnt in one epoch: in the next one versions begin anew.
pub(super) struct Remembered {
    epoch: u32,
    pub(super) known: Arc<Known>,
}

/// By what a question is asked.
pub(super) struct Stamp {
    calendar: Calendar,
    epoch: u32,
    pub(super) known: Arc<Known>,
}

/// An epoch that this client does not go by yet, and what is known in it.
pub(super) struct Coming {
    pub(super) begun: Begun,
    pub(super) known: Arc<Known>,
    /// Whether others go by it already.
    pub(super) is_present: bool,
}

/// How long it may take to give back a reservation that was not answered, and how long it is until that is tried again, at
/// first.
const REGRET: Duration = Duration::from_secs(1);

/// How many are given back at the same time.
pub(super) const REGRETS: usize = 1_000;

/// How often the server is asked again that has other terms or another time than was thought.
const TRIES: u32 = 4;

// === impl Inner ===

impl Inner {
    /// When a decision that is asked for now has to be there.
    pub(super) fn until(&self) -> Instant {
        Instant::now() + self.timeout
    }

    pub(super) async fn reserve(
        self: &Arc<Self>,
        charge: &Charge,
        until: Instant,
    ) -> Result<Granted, ReserveError> {
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
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(error) => {
                // It may be held all the same, and for nobody.
                if error.source().is_some_and(|source| source.is::<Error>()) {
                    self.give_back(Ticket::new(id, subject.clone(), UNIX_EPOCH));
                }
                return Err(error.into());
            }
        };
        match &*answer.word {
            "admitted" => {
                let ticket = Ticket::new(id, subject.clone(), answer.now.system_time());
                Ok(Granted::new(ticket, answer.amounts()?))
            }
            "denied" => Err(answer.denied()?.into()),
            _ => Err(unreadable().into()),
        }
    }

    /// Gives back what may be held for nobody: at once, behind the question on its connection, or else as soon as the server
    /// answers. If all that fails its lease ends.
    fn give_back(self: &Arc<Self>, ticket: Ticket) {
        // Of an outage it is the first who can have been heard.
        let Ok(permit) = Arc::clone(&self.regrets).try_acquire_owned() else {
            return;
        };
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let mut pause = REGRET;
            while pause.as_millis() <= u128::from(inner.lease) {
                let released = inner.release(&ticket, Instant::now() + REGRET).await;
                if released.is_ok() {
                    break;
                }
                sleep(pause).await;
                pause *= 2;
            }
            drop(permit);
        });
    }

    pub(super) async fn release(
        &self,
        ticket: &Ticket,
        until: Instant,
    ) -> Result<Released, StoreError> {
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

    pub(super) async fn standings(
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
    pub(super) async fn ask_of(
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
    pub(super) async fn decide(
        &self,
        script: &Script,
        subject: &Subject,
        until: Instant,
        coming: Option<&Coming>,
        mut ask: impl FnMut(&Stamp) -> Ask,
    ) -> Result<Answer, StoreError> {
        for _ in 0..TRIES {
            let is_lost = match self.link.is_clustered() {
                true => self.epoch.is_lost(),
                false => self.epoch.is_doubted(),
            };
            if coming.is_none() && is_lost {
                return Err(StoreError::new(Lost));
            }
            let now = self.clock.as_ref().map(|clock| UnixMs::from(clock.now()));
            let calendar = Calendar(now.unwrap_or_else(|| self.link.server_now()));
            let stamp = match coming {
                Some(Coming { begun, known, .. }) => Stamp {
                    calendar,
                    epoch: begun.name,
                    known: Arc::clone(known),
                },
                None => self.stamp(calendar),
            };
            let mut ask = ask(&stamp);
            ask.now = now.map(UnixMs::get);
            ask.epoch = text_of(stamp.epoch);
            if !self.link.is_clustered() {
                ask.checks = true;
                ask.keys.push(match coming {
                    Some(coming) if !coming.is_present => self.epochs.coming_key().to_owned(),
                    _ => self.epochs.key().to_owned(),
                });
            }
            // Strings and numbers always serialise.
            let args = vec![serde_json::to_string(&ask).unwrap_or_default()];
            let answer = self.link.ask(script, ask.keys, args, until).await?;
            match &*answer.word {
                "lost" if coming.is_some() => return Err(another()),
                "lost" => self.epoch.found(answer.epoch())?,
                "time" => {}
                "stale" => {
                    let mut chain: Vec<_> = subject.chain().map(Some).collect();
                    for (level, terms) in answer.stale()? {
                        let level = chain.get_mut(level).and_then(Option::take);
                        stamp.known.learn(level.ok_or_else(unreadable)?, terms);
                    }
                }
                _ => {
                    if coming.is_none() && !self.link.is_clustered() {
                        self.epoch.is_there(stamp.epoch);
                    }
                    return Ok(answer);
                }
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

    pub(super) fn remembered(&self) -> MutexGuard<'_, Remembered> {
        // Nothing done under the lock panics.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a reservation: of which store it is, of which epoch, and which one.
    fn id(&self, epoch: u32, number: u64) -> u128 {
        let mark = u128::from(self.names.mark());
        mark << 96 | u128::from(epoch) << 64 | u128::from(number)
    }

    pub(super) fn is_ours(&self, ticket: &Ticket) -> bool {
        ticket.id() >> 96 == u128::from(self.names.mark())
    }
}

/// Nobody waits any more for the epoch that was counted for.
pub(super) fn another() -> StoreError {
    StoreError::new("Redis' counters are reseeded for another epoch by now")
}

// === impl Doubting ===

impl Drop for Doubting {
    fn drop(&mut self) {
        self.0.abort();
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
