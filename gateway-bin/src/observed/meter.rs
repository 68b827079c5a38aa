use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower_usage::sqlite::SqliteLedger;
use tower_usage::{Place, Prices, RecordId, Sink};
use tracing::{info, warn};

use super::ear::{Heard, Hidden, News};
use super::message::{Message, Subject};
use super::recent::Recent;
use super::round::{self, Round};
use super::{sweep, transcript};
use crate::instance::{Admin, AdminError};
use crate::lease::Lease;
use crate::records::Records;
use crate::store::{Store, StoreError};

/// How long a gateway that died is still the one that meters.
const LENGTH: Duration = Duration::from_secs(15);

/// How often another one asks.
const AGAIN: Duration = Duration::from_secs(2);

/// How often what is recorded is noted for whoever takes over.
const NOTE: Duration = Duration::from_secs(2);

/// How often an instance is asked for what nobody heard.
const SWEEP: Duration = Duration::from_secs(5 * 60);

/// Soon after a channel has opened: what was written while it did may be neither in the first answer nor announced.
const SWEEP_AGAIN: Duration = Duration::from_secs(15);

/// Pause before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a look for a record may take.
const LOOK: Duration = Duration::from_secs(2);

/// So much before what was noted a look back begins: a message may be found some time after it was dated.
const MARGIN: Duration = Duration::from_secs(10);

/// What a meter works with.
#[expect(
    clippy::exhaustive_structs,
    reason = "whoever starts one must name everything"
)]
pub struct Parts {
    /// Name of the instance.
    pub instance: Arc<str>,
    /// Whose cell it is; `None`: it is a pool.
    pub owner: Option<Arc<str>>,
    /// Its administration channel.
    pub admin: Admin,
    /// What its [`Ear`](super::Ear) hears.
    pub heard: Heard,
    /// Who has which slot, and how far the messages are recorded.
    pub store: Store,
    /// Where records go.
    pub sink: Arc<dyn Sink>,
    /// Where they are found again.
    pub ledger: Arc<SqliteLedger>,
    /// Where those of all gateways are found.
    pub records: Records,
    /// What tokens cost.
    pub prices: Prices,
}

/// Records what an instance announces, as long as no other gateway does.
///
/// What is noted of it is until when everything is recorded: the time when the last round began that read all that was
/// written, once the ledger has it on the disk. Nothing that is only heard moves it, so that whoever takes over finds what
/// the one before had in its hands.
pub struct Meter {
    parts: Parts,
    seen: Recent,
    round: Option<Round>,
    next_round: Instant,
    /// Whether something got lost since the round began.
    is_due: bool,
    /// Whether another round follows soon.
    again: bool,
    /// How often in a row the instance did not answer, and until when it is left alone.
    failures: u32,
    rested: Instant,
    /// Until when everything is recorded, unless that is noted already.
    unnoted: Option<SystemTime>,
    /// The sessions in which something was written that nobody is shown, and its number.
    hidden: BTreeMap<Arc<str>, u64>,
    /// From when the latest round looks.
    from: Option<u64>,
    /// By how much the instance's clock was ahead of the store's, in milliseconds.
    ahead: Option<i64>,
}

/// Who stands in the way.
enum Failed {
    Store(StoreError),
    Instance(AdminError),
}

// === impl Meter ===

impl Meter {
    pub(super) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            parts,
            seen: Recent::default(),
            round: None,
            next_round: now,
            is_due: true,
            again: true,
            failures: 0,
            rested: now,
            unnoted: None,
            hidden: BTreeMap::new(),
            from: None,
            ahead: None,
        }
    }

    /// Starts a meter, which runs until it is told to stop.
    pub fn start(parts: Parts, stop: CancellationToken) {
        let mut meter = Self::new(parts);
        tokio::spawn(async move {
            stop.run_until_cancelled(meter.run()).await;
            // For whoever takes over, as far as it can be done at once.
            if stop.is_cancelled() {
                let _ = timeout(2 * RETRY, meter.note()).await;
            }
        });
    }

    async fn run(&mut self) {
        loop {
            let lease = self.turn().await;
            info!(instance = &*self.parts.instance, "this gateway meters");
            metrics::gauge!("gateway_meters").set(1.0);
            let failed = match &lease {
                Some(lease) => tokio::select! {
                    failed = self.meter() => Some(failed),
                    () = lease.lost() => None,
                },
                None => Some(self.meter().await),
            };
            metrics::gauge!("gateway_meters").set(0.0);
            match failed {
                Some(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "metering stops for a moment"
                    );
                    sleep(RETRY).await;
                }
                None => warn!(instance = &*self.parts.instance, "another gateway meters"),
            }
        }
    }

    /// Waits until nobody else meters. What is announced meanwhile is somebody else's.
    async fn turn(&mut self) -> Option<Lease> {
        if !self.parts.store.is_shared() {
            return None;
        }
        loop {
            let name = format!("meter {}", self.parts.instance);
            let taking = Lease::take_for(&self.parts.store, name, LENGTH, AGAIN);
            tokio::pin!(taking);
            let taken = loop {
                tokio::select! {
                    taken = &mut taking => break taken,
                    heard = self.parts.heard.queue.recv() => if heard.is_none() {
                        // No channel, no messages.
                        break (&mut taking).await;
                    },
                }
            };
            match taken {
                Ok(lease) => return Some(lease),
                // It may have been taken all the same: then it ends by itself.
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "who meters cannot be told"
                    );
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Records what is announced and what is found, until the store fails.
    async fn meter(&mut self) -> StoreError {
        let mut connected = self.parts.admin.follow();
        let mut note = interval(NOTE);
        note.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Where a round begins may have been noted by somebody else meanwhile.
        self.round = None;
        self.look_soon();
        loop {
            let is_open = *connected.borrow_and_update();
            let next = self.next_step();
            let step = tokio::select! {
                Some(news) = self.parts.heard.queue.recv() => self.hear(news).await,
                changed = connected.changed() => {
                    if changed.is_err() {
                        // The channel was stopped, and so will this be.
                        std::future::pending::<()>().await;
                    }
                    self.look_soon();
                    Ok(())
                }
                () = sleep_until(next), if is_open => self.step().await,
                _ = note.tick() => self.note().await,
            };
            if let Err(error) = step {
                // What is in hand is read again from the instance.
                return error;
            }
            if self.parts.heard.missed.swap(false, Ordering::AcqRel) {
                warn!("more is announced than can be recorded; it is read again");
                self.look_soon();
            }
        }
    }

    /// Records an answer that is announced, or has it asked for.
    pub(super) async fn hear(&mut self, news: News) -> Result<(), StoreError> {
        match news {
            News::Answer(message) => self.record(&message, "announced").await,
            News::Hidden(Hidden {
                session_key,
                number,
            }) => {
                let first = self.hidden.entry(session_key).or_insert(number);
                *first = number.min(*first);
                Ok(())
            }
        }
    }

    /// Something was written that nobody may have heard.
    pub(super) fn look_soon(&mut self) {
        (self.is_due, self.again) = (true, true);
        self.next_round = Instant::now();
    }

    /// When the instance is asked for something.
    pub(super) fn next_step(&self) -> Instant {
        match self.round.is_some() || !self.hidden.is_empty() {
            true => self.rested,
            false => self.next_round.max(self.rested),
        }
    }

    /// Whether a round is over, so that its time can be noted.
    #[cfg(test)]
    pub(super) fn has_read_all(&self) -> bool {
        self.unnoted.is_some()
    }

    /// Asks the instance for a part of what nobody heard, and records it. An instance that does not answer is left alone
    /// for longer and longer, and then asked for what is left.
    pub(super) async fn step(&mut self) -> Result<(), StoreError> {
        let stepped = if let Some(from) = self.from
            && let Some((session_key, number)) = self.hidden.pop_first()
        {
            self.look(&session_key, number, from).await
        } else if let Some(round) = self.round.take() {
            self.go_on(round).await
        } else {
            self.begin().await
        };
        match stepped {
            Ok(()) => self.failures = 0,
            Err(Failed::Store(error)) => return Err(error),
            Err(Failed::Instance(error)) => {
                self.failures = self.failures.saturating_add(1);
                let pause = round::pause(self.failures, &error);
                self.rested = Instant::now() + pause;
                info!(%error, ?pause, "an instance does not say what nobody heard; it is asked again");
            }
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), Failed> {
        self.is_due = false;
        let seen = self.parts.store.seen(&self.parts.instance).await?;
        let asked = Instant::now();
        let begun = self.parts.store.time().await?;
        let theirs = sweep::clock(&self.parts.admin).await?;
        // Rather too early: it was that time there before the answer was here.
        let ours = millis(begun + asked.elapsed()).saturating_add(1);
        let ahead = theirs.map_or(0, |theirs| difference(theirs, ours));
        // Of an instance whose clock was set ahead, what it wrote before is as old as it was.
        let ahead_then = self.ahead.map_or(ahead, |then| then.min(ahead));
        let look_back = seen.until.checked_sub(MARGIN).unwrap_or(UNIX_EPOCH);
        let from = millis(seen.since.max(look_back)).saturating_add_signed(ahead_then);
        let sessions = sweep::sessions(&self.parts.admin, from).await?;
        self.ahead = Some(ahead);
        self.from = Some(from);
        self.round = Some(Round::new(begun, from, sessions));
        Ok(())
    }

    async fn go_on(&mut self, mut round: Round) -> Result<(), Failed> {
        let Some(session_key) = round.next() else {
            self.unnoted = Some(round.begun);
            let pause = match (self.is_due, self.again) {
                (true, _) => Duration::ZERO,
                (false, true) => SWEEP_AGAIN,
                (false, false) => SWEEP,
            };
            self.again = self.is_due;
            self.next_round = Instant::now() + pause;
            return Ok(());
        };
        let read = self.read(&session_key, round.from).await;
        if read.is_ok() {
            round.done();
            self.round = Some(round);
        } else if round.put_off() {
            self.round = Some(round);
        } else {
            // Others may have changed meanwhile, and are not to wait for those that cannot be read.
            self.next_round = Instant::now();
        }
        read
    }

    async fn read(&mut self, session_key: &Arc<str>, from: u64) -> Result<(), Failed> {
        for message in transcript::answers(&self.parts.admin, session_key, from).await? {
            self.find(&message).await?;
        }
        Ok(())
    }

    /// Records what is announced only as hidden. If it cannot be read, the next round finds that it lacks.
    async fn look(&mut self, session_key: &Arc<str>, number: u64, from: u64) -> Result<(), Failed> {
        let answers = transcript::hidden(&self.parts.admin, session_key, number, 1, from).await;
        if answers.is_err() {
            self.look_soon();
        }
        for message in answers? {
            self.find(&message).await?;
        }
        Ok(())
    }

    /// Records a message of a history, unless it is recorded, by this gateway or another.
    async fn find(&mut self, message: &Message) -> Result<(), StoreError> {
        let id = message.record_id(&self.parts.instance);
        if !self.seen.has(id) && self.is_recorded(id, message).await {
            self.seen.put(id);
            return Ok(());
        }
        self.record(message, "found").await
    }

    /// Whether a ledger has it. One that cannot be read, and the database, keep one record of an id all the same.
    async fn is_recorded(&self, id: RecordId, message: &Message) -> bool {
        let Some(response_id) = message.response_id() else {
            return false;
        };
        // What this gateway has recorded may not be shipped yet.
        let own = Records::File(Arc::clone(&self.parts.ledger));
        let shared = self.parts.store.is_shared();
        let all = [Some(&own), shared.then_some(&self.parts.records)];
        for records in all.into_iter().flatten() {
            let found = timeout(LOOK, records.find_by_response(response_id)).await;
            if let Ok(Ok(found)) = found
                && found.iter().any(|record| record.id == id)
            {
                return true;
            }
        }
        false
    }

    pub(super) async fn record(
        &mut self,
        message: &Message,
        how: &'static str,
    ) -> Result<(), StoreError> {
        let id = message.record_id(&self.parts.instance);
        if self.seen.has(id) || message.came_by_egress() {
            return Ok(());
        }
        let instance = &self.parts.instance;
        let owner = match (&self.parts.owner, message.subject()) {
            (Some(owner), _) => Some(Arc::clone(owner)),
            (None, Subject::Slot(slot)) => self.parts.store.find_owner(instance, slot).await?,
            (None, Subject::Instance) => None,
        };
        let subject = owner.unwrap_or_else(|| format!("instance:{instance}").into());
        let record = message.record(instance, subject, &self.parts.prices.load());
        let place = loop {
            match Place::take(Arc::clone(&self.parts.sink)) {
                Ok(place) => break place,
                // It waits for room, not the instance.
                Err(_) => sleep(RETRY).await,
            }
        };
        place.record(record);
        metrics::counter!("gateway_observed_records_total", "how" => how).increment(1);
        self.seen.put(id);
        Ok(())
    }

    /// Notes until when the messages are recorded, once the ledger has them.
    pub(super) async fn note(&mut self) -> Result<(), StoreError> {
        let Some(until) = self.unnoted else {
            return Ok(());
        };
        // Counters that do not answer are not waited for: then it is noted the next time.
        let stored = timeout(RETRY, self.parts.ledger.flush()).await;
        if !matches!(stored, Ok(Ok(()))) {
            return Ok(());
        }
        self.parts
            .store
            .put_seen(&self.parts.instance, until)
            .await?;
        self.unnoted = None;
        Ok(())
    }
}

/// In milliseconds since 1970.
fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `left - right`.
fn difference(left: u64, right: u64) -> i64 {
    let size = i64::try_from(left.abs_diff(right)).unwrap_or(i64::MAX);
    if left < right { -size } else { size }
}

// === impl Failed ===

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<AdminError> for Failed {
    fn from(error: AdminError) -> Self {
        Self::Instance(error)
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}
