//! What this gateway has recorded goes to the database that gateways share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tower_usage::postgres::{PostgresLedger, Shipper};
use tower_usage::sqlite::{LedgerError, SqliteLedger};
use tracing::warn;

/// How long a record may wait before the gateway is not ready: what others read of people's usage is as old then.
const LATE: Duration = Duration::from_secs(300);

/// How often it is looked what waits.
const LOOK: Duration = Duration::from_secs(5);

/// How long what came last may take at the end; what is left is shipped at the next start.
const FLUSH: Duration = Duration::from_secs(5);

/// Ships the ledger of this gateway; clones are the same.
#[derive(Clone)]
pub struct Shipping {
    shipper: Arc<Shipper>,
    is_late: Arc<AtomicBool>,
}

// === impl Shipping ===

impl Shipping {
    /// Begins to ship, on `runtime`, which outlives the server's.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn start(
        ledger: Arc<SqliteLedger>,
        database: PostgresLedger,
        runtime: &Handle,
        stop: CancellationToken,
    ) -> Result<Self, LedgerError> {
        let started = runtime.spawn(async move { Shipper::start(&ledger, &database).await });
        let shipper = started.await.unwrap_or(Err(LedgerError::NoRuntime))?;
        let shipping = Self {
            shipper: Arc::new(shipper),
            is_late: Arc::default(),
        };
        tokio::spawn(shipping.clone().look(stop));
        Ok(shipping)
    }

    /// Whether nothing waits for too long.
    #[must_use]
    pub fn is_in_time(&self) -> bool {
        !self.is_late.load(Ordering::Relaxed)
    }

    /// Ships what came last, for some seconds at most.
    pub async fn flush(&self) {
        if timeout(FLUSH, self.shipper.flush()).await.is_err() {
            warn!("what was recorded last is shipped at the next start");
        }
    }

    async fn look(self, stop: CancellationToken) {
        let mut ticks = interval(LOOK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let shipper = Arc::clone(&self.shipper);
            let Ok(Ok(unshipped)) = spawn_blocking(move || shipper.backlog()).await else {
                continue;
            };
            let late = unshipped.age > LATE;
            self.is_late.store(late, Ordering::Relaxed);
            let gauge = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            metrics::gauge!("gateway_ledger_unshipped_records").set(gauge(unshipped.records));
            metrics::gauge!("gateway_ledger_unshipped_seconds").set(unshipped.age.as_secs_f64());
            metrics::gauge!("gateway_ledger_refused_records").set(gauge(unshipped.refused));
        }
    }
}

impl std::fmt::Debug for Shipping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shipping").finish_non_exhaustive()
    }
}
