//! Snapshots of everybody, one after the other.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::Snapshots;
use crate::lease::Lease;
use crate::store::StoreError;

/// When snapshots are taken, and how long they are kept.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "whoever makes one must say everything"
)]
pub struct Schedule {
    /// How often one is taken of each person; `None`: by request alone.
    pub every: Option<Duration>,
    /// How long they are kept.
    pub keep: Duration,
}

/// What one gateway does of those that share a store.
const LEASE: &str = "snapshots";

/// How long the lease lasts if its holder dies, and how often the others ask for it.
const LEASE_LENGTH: Duration = Duration::from_secs(60);
const LEASE_AGAIN: Duration = Duration::from_secs(10);

/// Bounds on the pause between two rounds, of which there are so many in the time between two snapshots of one person.
const ROUNDS: u32 = 24;
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));

/// Rows that one statement looks at, so that nobody waits long for it.
const PAGE: usize = 200;

/// Pause between two pages, and between two people; the latter is also so many times what the one before took, so that
/// nothing else is slow because of it.
const BREATH: Duration = Duration::from_millis(20);
const IDLE: u32 = 4;

// === impl Schedule ===

impl Schedule {
    fn pause(&self) -> Duration {
        let (least, most) = PAUSE;
        self.every
            .map_or(most, |every| (every / ROUNDS).clamp(least, most))
    }
}

// === impl Snapshots ===

impl Snapshots {
    /// Takes snapshots and deletes old ones, for as long as it runs; of gateways that share a store, one does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it.
    pub async fn follow(self, schedule: Schedule) {
        if !self.store.is_shared() {
            return self.rounds(schedule).await;
        }
        loop {
            let lease = Lease::take_for(&self.store, LEASE.into(), LEASE_LENGTH, LEASE_AGAIN);
            match lease.await {
                Ok(lease) => tokio::select! {
                    () = lease.lost() => {}
                    () = self.rounds(schedule) => {}
                },
                Err(_) => sleep(LEASE_AGAIN).await,
            }
        }
    }

    async fn rounds(&self, schedule: Schedule) {
        let mut is_deaf = false;
        loop {
            match self.round(schedule).await {
                Ok(()) => is_deaf = false,
                Err(error) if !is_deaf => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    warn!(error, "the store does not say of whom a snapshot is due");
                    is_deaf = true;
                }
                Err(_) => {}
            }
            sleep(schedule.pause()).await;
        }
    }

    /// One look at everybody.
    async fn round(&self, schedule: Schedule) -> Result<(), StoreError> {
        while self.store.delete_old_snapshots(schedule.keep, PAGE).await? == PAGE {
            sleep(BREATH).await;
        }
        let Some(every) = schedule.every else {
            return Ok(());
        };
        let (mut after, mut taken, mut missed) = (String::new(), 0_u64, 0_u64);
        loop {
            let page = self.store.snapshots_due(&after, PAGE, every).await?;
            let Some((last, _)) = page.last() else {
                break;
            };
            after = last.to_string();
            for (user_id, is_due) in page {
                if !is_due {
                    continue;
                }
                let begun = Instant::now();
                // Who is missed is due in the next round.
                let outcome = match self.take(&user_id).await {
                    Ok(_) => {
                        taken += 1;
                        "taken"
                    }
                    Err(error) => {
                        if missed == 0 {
                            let error = &error as &(dyn std::error::Error + 'static);
                            warn!(error, "a snapshot was not taken");
                        }
                        missed += 1;
                        "failed"
                    }
                };
                metrics::counter!("gateway_snapshots_total", "outcome" => outcome).increment(1);
                sleep(begun.elapsed().saturating_mul(IDLE).max(BREATH)).await;
            }
            sleep(BREATH).await;
        }
        if taken > 0 || missed > 0 {
            info!(taken, missed, "snapshots of people");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_as_many_as_are_needed() {
        let pause = |seconds| {
            let every = Some(Duration::from_secs(seconds));
            let keep = Duration::from_secs(1);
            Schedule { every, keep }.pause().as_secs()
        };
        assert_eq!(
            [pause(1), pause(86_400), pause(30 * 86_400)],
            [1, 3_600, 3_600]
        );
        assert_eq!(pause(4 * 3_600), 600);
    }
}
