use std::fmt;
use std::time::Duration;

use tokio::time::timeout;
use tower_quota::{Amounts, Dimension, QuotaStore, Renewing, Settled, Ticket};
use tower_usage::UsageRecord;
use tower_usage::sqlite::{Settle, SettleError, SettleFuture};
use tracing::warn;

use super::store::CounterStore;
use crate::alerts::Alerts;

/// The `settle_ref` of what was let through without a reservation, since the counters did not answer.
pub const UNRESERVED: &str = "unreserved";

/// How long alerts may take to be kept.
const LOOK: Duration = Duration::from_secs(1);

/// Counters that follow the ledger: each record is settled once it is committed. Σ counters = Σ records, whatever happened
/// in between.
#[derive(Clone)]
pub struct Counters {
    store: Renewing<CounterStore>,
    alerts: Alerts,
}

// === impl Counters ===

impl Counters {
    /// Counters in this store, with alerts of what is used.
    #[must_use]
    pub const fn new(store: Renewing<CounterStore>, alerts: Alerts) -> Self {
        Self { store, alerts }
    }
}

impl Settle for Counters {
    fn settle(&self, record: &UsageRecord) -> SettleFuture {
        let (ticket, is_reserved) = match record.settle_ref.as_deref() {
            None => return SettleFuture::ready(Ok(())),
            Some(UNRESERVED) => {
                let (subject, at) = (&record.subject, record.admitted_at);
                (Ticket::new(record.id.as_u128(), subject, at), false)
            }
            Some(text) => match text.parse() {
                Ok(ticket) => (ticket, true),
                Err(error) => {
                    let error: tower_quota::ParseTicketError = error;
                    return SettleFuture::ready(Err(SettleError::Refused(error.into())));
                }
            },
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
        let (store, alerts) = (self.store.clone(), self.alerts.clone());
        let number = record.number;
        SettleFuture::boxed(async move {
            let settled = async {
                let counters = store.get_ref();
                if counters.have_counted(number)? {
                    // Whatever is held for it, perhaps carried over into these counters, is among them as used.
                    store.release(&ticket).await?;
                    return Ok(());
                }
                if is_reserved {
                    match store.settle(&ticket, used).await? {
                        Settled::Applied { overshoot } => {
                            publish(overshoot);
                            return Ok(());
                        }
                        Settled::AlreadySettled => return Ok(()),
                        // The reservation was given back long ago, or is of counters that were lost or left since.
                        Settled::Forgotten | Settled::Unknown => {}
                    }
                }
                counters.count(&ticket, used).await
            };
            let settled: Result<(), tower_quota::StoreError> = settled.await;
            // What is not kept in time is looked at with the next use: settling others does not wait for it.
            let _ = timeout(LOOK, alerts.look(&store, ticket.subject())).await;
            settled.map_err(|error| SettleError::Unavailable(Box::new(error)))
        })
    }
}

/// What was used beyond what was held for it.
fn publish(overshoot: Amounts) {
    for dimension in Dimension::ALL {
        let amount = overshoot.get(dimension);
        if amount > 0 {
            metrics::counter!("gateway_quota_overshoot_total", "dimension" => dimension.as_str())
                .increment(amount);
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::SystemTime;

    use tower_quota::{Charge, Limit, Limits, MemoryStore, Window};
    use tower_usage::Operation;

    use super::*;

    fn counters() -> Counters {
        let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 1_000_000)]).unwrap();
        let store = MemoryStore::new(plan).clock(Arc::new(|| SystemTime::UNIX_EPOCH));
        let store = CounterStore::in_memory(store);
        let minute = Duration::from_secs(60);
        let dir = tempfile::tempdir().unwrap();
        let file = crate::store::Store::open(&dir.path().join("gateway.db")).unwrap();
        let alerts = Alerts::new(file, &BTreeMap::new());
        Counters::new(Renewing::start(Arc::new(store), minute), alerts)
    }

    async fn reserve(counters: &Counters) -> Ticket {
        let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
        counters.store.reserve(&charge).await.unwrap().into_ticket()
    }

    async fn settle(counters: &Counters, settle_ref: &str, number: u64) {
        let mut record = UsageRecord::new("alice".into(), Operation::Run);
        record.admitted_at = SystemTime::UNIX_EPOCH;
        record.settle_ref = Some(settle_ref.into());
        record.number = Some(number);
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

        settle(&counters, &ticket.to_string(), 1).await;

        assert_eq!(used(&counters).await, 1);
    }

    #[tokio::test]
    async fn what_was_let_through_uncounted_is_counted_afterwards() {
        let counters = counters();
        settle(&counters, UNRESERVED, 1).await;
        assert_eq!(used(&counters).await, 1);
    }

    #[tokio::test]
    async fn what_was_counted_of_the_ledger_is_not_counted_again_whatever_its_ticket_says() {
        let earlier = self::counters();
        let admitted = reserve(&earlier).await;
        let ahead = admitted.admitted_at() + Duration::from_secs(60);
        let counters = self::counters();
        counters.store.get_ref().has_counted(3);

        settle(&counters, &admitted.to_string(), 1).await;
        let ahead = Ticket::new(admitted.id(), "alice", ahead);
        settle(&counters, &ahead.to_string(), 2).await;
        settle(&counters, UNRESERVED, 3).await;
        assert_eq!(used(&counters).await, 0);

        settle(&counters, &admitted.to_string(), 4).await;
        assert_eq!(used(&counters).await, 1);
    }
}
