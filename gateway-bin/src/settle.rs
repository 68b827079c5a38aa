//! Settling what was set aside once its record is in the ledger.

use std::fmt;
use std::time::SystemTime;

use tower_quota::{Amounts, MemoryStore, QuotaStore, Renewing, Settled, Ticket};
use tower_usage::UsageRecord;
use tower_usage::sqlite::{LedgerError, Settle, SettleError, SettleFuture, SqliteLedger};
use tracing::warn;

use crate::alerts::Alerts;

/// Counters in memory that follow the ledger: filled from it at start, settled by it from then on. Σ counters = Σ
/// records, whatever happened in between.
#[derive(Clone)]
pub struct Counters {
    store: Renewing<MemoryStore>,
    alerts: Alerts,
}

// === impl Counters ===

impl Counters {
    /// Fills `store` with what `ledger` says was used since `since`. Records that are still to be settled are counted
    /// with the others; settling them again later finds no reservation and changes nothing.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn fill(
        store: Renewing<MemoryStore>,
        ledger: &SqliteLedger,
        since: SystemTime,
        alerts: Alerts,
    ) -> Result<Self, LedgerError> {
        for used in ledger.used(since)? {
            let cost = u64::try_from(used.cost.as_nanos()).unwrap_or(0);
            let amounts = Amounts::new()
                .tokens(used.tokens)
                .nano_usd(cost)
                .calls(used.calls);
            store
                .get_ref()
                .add_used(&used.user_id.into(), used.at, amounts);
        }
        Ok(Self { store, alerts })
    }
}

impl Settle for Counters {
    fn settle(&self, record: &UsageRecord) -> SettleFuture {
        let ticket = match record.settle_ref.as_deref().map(str::parse::<Ticket>) {
            Some(Ok(ticket)) => ticket,
            Some(Err(error)) => {
                return SettleFuture::ready(Err(SettleError::Refused(error.into())));
            }
            None => return SettleFuture::ready(Ok(())),
        };
        if record.cost.is_none() && record.tokens.total() > 0 {
            // Never priced as another model, so that it costs nothing until somebody names its price.
            metrics::counter!("gateway_unpriced_records_total").increment(1);
            warn!(model = ?record.model, "a model without a [[price]] was used; cost limits do not see it");
        }
        let cost = record
            .cost
            .and_then(|cost| u64::try_from(cost.as_nanos()).ok())
            .unwrap_or(0);
        let used = Amounts::new()
            .tokens(record.tokens.total())
            .nano_usd(cost)
            .calls(record.calls);
        let store = self.store.clone();
        let settling = store.settle(&ticket, used);
        let alerts = self.alerts.clone();
        SettleFuture::boxed(async move {
            let settled = match settling.await {
                // Made by this process and forgotten since: given back long ago, or among too many others. It was not
                // settled before, for the ledger settles a record once in a process and tries again only what failed,
                // which an answer of the store is not. So this is the first settlement, and what it says counts. Left
                // over records of an earlier process never come here: their tickets are unknown, and `fill` has
                // counted them.
                Ok(Settled::Forgotten) => {
                    store
                        .get_ref()
                        .add_used(ticket.subject(), ticket.admitted_at(), used);
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(SettleError::Unavailable(Box::new(error))),
            };
            alerts.look(&store, ticket.subject()).await;
            settled
        })
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tower_quota::{Charge, Dimension, Limit, Limits, Window};
    use tower_usage::Operation;

    use super::*;

    fn counters() -> Counters {
        let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 1_000_000)]).unwrap();
        let store = MemoryStore::new(plan).clock(Arc::new(|| SystemTime::UNIX_EPOCH));
        let minute = std::time::Duration::from_secs(60);
        let dir = tempfile::tempdir().unwrap();
        let file = crate::store::Store::open(&dir.path().join("gateway.db")).unwrap();
        Counters {
            store: Renewing::start(Arc::new(store), minute),
            alerts: Alerts::new(file, &std::collections::BTreeMap::new()),
        }
    }

    async fn reserve(counters: &Counters) -> Ticket {
        let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
        counters.store.reserve(&charge).await.unwrap().into_ticket()
    }

    async fn settle(counters: &Counters, ticket: &Ticket) {
        let mut record = UsageRecord::new("alice".into(), Operation::Run);
        record.settle_ref = Some(ticket.to_string().into());
        counters.settle(&record).await.unwrap();
    }

    async fn used(counters: &Counters) -> u64 {
        counters.store.standings(&"alice".into()).await.unwrap()[0].used()
    }

    #[tokio::test]
    async fn a_call_counts_even_if_its_reservation_is_forgotten() {
        let counters = counters();
        let ticket = reserve(&counters).await;
        counters.store.abandon(&ticket);
        for _ in 0..2_000 {
            counters.store.abandon(&reserve(&counters).await);
        }

        settle(&counters, &ticket).await;

        assert_eq!(used(&counters).await, 1);
    }

    #[tokio::test]
    async fn what_an_earlier_process_admitted_is_not_counted_again_whatever_its_clock_said() {
        let earlier = self::counters();
        let admitted = reserve(&earlier).await;
        let ahead = admitted.admitted_at() + std::time::Duration::from_secs(60);
        let counters = self::counters();

        settle(&counters, &admitted).await;
        settle(&counters, &Ticket::new(admitted.id(), "alice", ahead)).await;

        assert_eq!(used(&counters).await, 0);
    }
}
