use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower_usage::sqlite::SqliteLedger;
use tower_usage::{Place, Prices, Sink};
use tracing::{info, warn};

use super::ear::Heard;
use super::message::{Message, Subject};
use super::recent::Recent;
use super::sweep;
use crate::instance::{Admin, AdminError};
use crate::lease::Lease;
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

/// So much before what was noted a look back begins: messages of several sessions are not announced in the order of
/// their times. What is between may be in two ledgers, as one record.
const MARGIN: Duration = Duration::from_secs(10);

/// What a meter works with.
#[expect(
    clippy::exhaustive_structs,
    reason = "whoever starts one must name everything"
)]
pub struct Parts {
    /// Name of the instance.
    pub instance: Arc<str>,
    /// Its administration channel.
    pub admin: Admin,
    /// What its [`Ear`] hears.
    pub heard: Heard,
    /// Who has which slot, and how far the messages are recorded.
    pub store: Store,
    /// Where records go.
    pub sink: Arc<dyn Sink>,
    /// Where they are found again.
    pub ledger: Arc<SqliteLedger>,
    /// What tokens cost.
    pub prices: Prices,
}

/// Records what an instance announces, as long as no other gateway does.
pub struct Meter {
    parts: Parts,
    seen: Recent,
    /// When the latest message was written that is recorded.
    newest_ms: u64,
    /// And of those that are noted.
    noted_ms: u64,
    /// Whether everything before that is recorded, too.
    is_whole: bool,
    /// When the instance was last asked for all that was missed.
    swept_at: Option<SystemTime>,
}

// === impl Meter ===

impl Meter {
    /// Starts a meter, which runs until it is told to stop.
    pub fn start(parts: Parts, stop: CancellationToken) {
        let mut meter = Self {
            parts,
            seen: Recent::default(),
            newest_ms: 0,
            noted_ms: 0,
            is_whole: false,
            swept_at: None,
        };
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
        let mut again = 0;
        let mut next_sweep = Instant::now();
        self.is_whole = false;
        self.swept_at = None;
        loop {
            let is_open = *connected.borrow_and_update();
            let step = tokio::select! {
                Some(message) = self.parts.heard.queue.recv() => {
                    self.record(&message, "announced").await
                }
                changed = connected.changed() => {
                    if changed.is_err() {
                        // The channel was stopped, and so will this be.
                        std::future::pending::<()>().await;
                    }
                    (again, next_sweep) = (0, Instant::now());
                    self.is_whole = false;
                    Ok(())
                }
                () = sleep_until(next_sweep), if is_open => {
                    match self.sweep().await {
                        Ok(true) => {
                            next_sweep = Instant::now() + if again == 0 { SWEEP_AGAIN } else { SWEEP };
                            again += 1;
                            Ok(())
                        }
                        Ok(false) => {
                            next_sweep = Instant::now() + AGAIN;
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                }
                _ = note.tick() => self.note().await,
            };
            if let Err(error) = step {
                // What is in hand is read again from the instance.
                return error;
            }
            if self.parts.heard.missed.swap(false, Ordering::AcqRel) {
                warn!("more is announced than can be recorded; it is read again");
                next_sweep = Instant::now();
                self.is_whole = false;
            }
        }
    }

    /// Records what nobody heard. Whether the instance said everything.
    async fn sweep(&mut self) -> Result<bool, StoreError> {
        let seen = self.parts.store.seen(&self.parts.instance).await?;
        let begun = self.parts.store.time().await?;
        // What was noted since says nothing about messages that got lost on their way.
        let until = self.swept_at.map_or(seen.until, |at| at.min(seen.until));
        let look_back = until.checked_sub(MARGIN).unwrap_or(UNIX_EPOCH);
        let from = seen.since.max(look_back);
        let unsaid = |error: AdminError| {
            info!(%error, "an instance does not say what nobody heard; it is asked again");
            Ok(false)
        };
        let sessions = match sweep::sessions(&self.parts.admin, from).await {
            Ok(sessions) => sessions,
            Err(error) => return unsaid(error),
        };
        for session_key in sessions {
            let messages = match sweep::history(&self.parts.admin, &session_key, from).await {
                Ok(messages) => messages,
                Err(error) => return unsaid(error),
            };
            for message in messages {
                self.find(&message).await?;
            }
        }
        (self.is_whole, self.swept_at) = (true, Some(begun));
        Ok(true)
    }

    /// Records a message of a history, unless the ledger has it.
    async fn find(&mut self, message: &Message) -> Result<(), StoreError> {
        let id = message.record_id(&self.parts.instance);
        if !self.seen.has(id)
            && let Some(response_id) = message.response_id().cloned()
        {
            let ledger = Arc::clone(&self.parts.ledger);
            let found = spawn_blocking(move || ledger.find_by_response(&response_id)).await;
            // If it cannot be read, it keeps one record of an id all the same.
            if let Ok(Ok(records)) = found
                && records.iter().any(|record| record.id == id)
            {
                self.seen.put(id);
                self.newest_ms = self.newest_ms.max(message.written_ms);
                return Ok(());
            }
        }
        self.record(message, "found").await
    }

    async fn record(&mut self, message: &Message, how: &'static str) -> Result<(), StoreError> {
        let id = message.record_id(&self.parts.instance);
        if self.seen.has(id) || message.came_by_egress() {
            return Ok(());
        }
        let instance = &self.parts.instance;
        let owner = match message.subject() {
            Subject::Slot(slot) => self.parts.store.find_owner(instance, slot).await?,
            Subject::Instance => None,
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
        self.newest_ms = self.newest_ms.max(message.written_ms);
        Ok(())
    }

    /// Notes how far the messages are recorded, once the ledger has them.
    async fn note(&mut self) -> Result<(), StoreError> {
        let newest = self.newest_ms;
        if newest <= self.noted_ms || !self.is_whole {
            return Ok(());
        }
        // Counters that do not answer are not waited for: then it is noted the next time.
        let stored = timeout(RETRY, self.parts.ledger.flush()).await;
        if !matches!(stored, Ok(Ok(()))) {
            return Ok(());
        }
        let until: SystemTime = UNIX_EPOCH + Duration::from_millis(newest);
        // An instance whose clock is ahead must not make what comes later look old.
        let until = until.min(self.parts.store.time().await?);
        self.parts
            .store
            .put_seen(&self.parts.instance, until)
            .await?;
        self.noted_ms = newest;
        Ok(())
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
