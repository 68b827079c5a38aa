use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Target;
use super::receiver::{ATTEMPT, Failure, Receiver};
use super::retry;
use crate::clock;
use crate::store::{Alert, Store, StoreError};

/// How many alerts are taken at once: as many as can be sent one after the other while they are ours.
const BATCH: u32 = 5;

/// How long they are ours. What a gateway leaves that dies is sent by the next one after this time.
const LEASE: Duration = Duration::from_secs(60);

/// How often the store is asked for alerts that are due again, and for those that other gateways have left.
const LOOK: Duration = Duration::from_secs(5);

/// The age at which an alert that is not taken is given up.
const GIVE_UP: Duration = Duration::from_secs(3 * 86_400);

/// Delivers the alerts of a store to `target`, in a task of the current runtime that ends at once with `stop`. The answer
/// is to be notified when there is a new one.
///
/// # Errors
///
/// This host has no certificates to trust.
pub fn start(target: Target, store: Store, stop: CancellationToken) -> io::Result<Arc<Notify>> {
    let sender = Sender::new(store, Receiver::new(target)?);
    let is_new = Arc::new(Notify::new());
    let run = sender.run(Arc::clone(&is_new));
    tokio::spawn(stop.run_until_cancelled_owned(run));
    Ok(is_new)
}

/// What takes alerts from the store and sends them, one at a time.
pub(super) struct Sender {
    store: Store,
    receiver: Receiver,
}

/// That later alerts of one person and limit wait until an earlier one is sent again.
struct Held {
    earlier: Alert,
    until: SystemTime,
}

// === impl Sender ===

impl Sender {
    pub(super) fn new(store: Store, receiver: Receiver) -> Self {
        Self { store, receiver }
    }

    /// Never ends.
    ///
    /// # Cancel safety
    ///
    /// What was taken when the future is dropped is sent again later, by whoever looks then.
    async fn run(self, is_new: Arc<Notify>) {
        loop {
            if self.send_due().await {
                continue;
            }
            tokio::select! {
                () = is_new.notified() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Sends some of what is due; whether there was any.
    pub(super) async fn send_due(&self) -> bool {
        let ours_until = Instant::now() + LEASE;
        let claimed = match self.store.claim_deliveries(BATCH, LEASE).await {
            Ok(claimed) => claimed,
            Err(error) => {
                not_kept(&error);
                return false;
            }
        };
        let is_any = !claimed.is_empty();
        let mut held: Vec<Held> = Vec::new();
        for alert in claimed {
            if Instant::now() + ATTEMPT > ours_until {
                // Soon it may be another's. What is left is due again when the lease is over.
                break;
            }
            if let Some(held) = held.iter().find(|held| held.holds(&alert)) {
                self.delay(&alert, held.until).await;
            } else if let Some(until) = self.send(&alert).await {
                held.push(Held {
                    earlier: alert,
                    until,
                });
            }
        }
        is_any
    }

    /// Sends an alert; when it will be sent again, if that is needed.
    async fn send(&self, alert: &Alert) -> Option<SystemTime> {
        let (id, attempts) = (&*alert.id, alert.attempts);
        let Err(failure) = self.receiver.send(alert).await else {
            self.done(alert).await;
            info!(id, attempts, "an alert was delivered");
            count("delivered");
            return None;
        };
        let now = clock::now();
        let age = now.duration_since(alert.triggered_at).unwrap_or_default();
        if matches!(failure, Failure::Gone) || age >= GIVE_UP {
            self.done(alert).await;
            warn!(id, attempts, %failure, "an alert is not delivered, and given up");
            count("given_up");
            return None;
        }
        let wait = retry::wait(attempts, random(), failure.retry_after());
        let again = now.checked_add(wait).unwrap_or(now);
        self.delay(alert, again).await;
        warn!(id, attempts, %failure, "an alert was not delivered; it will be sent again");
        count("failed");
        Some(again)
    }

    /// The store that does not keep this makes the receiver see the alert again.
    async fn done(&self, alert: &Alert) {
        if let Err(error) = self.store.delivered(alert.id.clone()).await {
            not_kept(&error);
        }
    }

    /// Where the store does not keep this, the alert is due when its lease is over.
    async fn delay(&self, alert: &Alert, at: SystemTime) {
        if let Err(error) = self.store.delay_delivery(alert.id.clone(), at).await {
            not_kept(&error);
        }
    }
}

// === impl Held ===

impl Held {
    fn holds(&self, later: &Alert) -> bool {
        self.earlier.subject == later.subject && self.earlier.alert_type == later.alert_type
    }
}

fn not_kept(error: &StoreError) {
    warn!(
        error = error as &dyn StdError,
        "the store does not keep what is delivered"
    );
}

fn count(outcome: &'static str) {
    metrics::counter!("gateway_webhook_deliveries_total", "outcome" => outcome).increment(1);
}

/// Without randomness waits are at their longest.
fn random() -> u8 {
    let mut byte = [u8::MAX];
    let _ = rand::fill(&mut byte);
    u8::from_ne_bytes(byte)
}
