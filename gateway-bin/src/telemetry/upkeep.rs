use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tower_usage::sqlite::SqliteLedger;
use tracing::debug;

use super::exposition::Exposition;
use super::instances::InstanceGauges;
use crate::cells::Cells;
use crate::sign_in::SignIn;
use crate::sinks::Sinks;
use crate::socket::Sockets;
use crate::store::Store;

/// How often metrics that have no event of their own are taken.
const EVERY: Duration = Duration::from_secs(5);

/// How many times they are taken until the store is asked again how many people have a place where.
const PEOPLE_EVERY: u32 = 6;

/// What metrics need from time to time: the exporter's own bookkeeping, and gauges.
pub(crate) struct Upkeep {
    pub(crate) exposition: Exposition,
    pub(crate) instances: InstanceGauges,
    pub(crate) ledger: Arc<SqliteLedger>,
    pub(crate) sinks: Sinks,
    pub(crate) cells: Option<Cells>,
    pub(crate) sockets: Sockets,
    pub(crate) sign_in: SignIn,
    pub(crate) store: Store,
}

// === impl Upkeep ===

impl Upkeep {
    /// Takes them until `stop`.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        let mut until_people = 0_u32;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            self.measure();
            if until_people == 0 {
                match self.store.assigned().await {
                    Ok(people) => self.instances.set_people(people),
                    Err(error) => debug!(%error, "how many people have a place is not known"),
                }
                until_people = PEOPLE_EVERY;
            }
            until_people -= 1;
        }
    }

    fn measure(&self) {
        self.exposition.run_upkeep();
        self.instances.measure();
        if let Some(cells) = &self.cells {
            cells.measure();
        }
        let connected = self.sockets.people();
        metrics::gauge!("gateway_people_connected").set(gauge(connected.len()));
        let signed_in = self.sign_in.recent_people().count(&connected);
        metrics::gauge!("gateway_people_signed_in").set(gauge(signed_in));
        metrics::counter!("gateway_verify_cache_hits_total").absolute(self.sign_in.verdict_hits());
        metrics::gauge!("gateway_ledger_backlog_records").set(gauge(self.ledger.backlog()));
        metrics::counter!("gateway_usage_copies_missed_total").absolute(self.sinks.missed());
        metrics::counter!("gateway_usage_unclaimed_total").absolute(self.sinks.unclaimed());
    }
}

fn gauge<N: TryInto<u32>>(count: N) -> f64 {
    f64::from(count.try_into().unwrap_or(u32::MAX))
}
