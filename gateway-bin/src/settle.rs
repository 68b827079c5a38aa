//! Settling what was set aside once its record is in the ledger.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tower_quota::{Amounts, MemoryStore, QuotaStore, Settled, Ticket};
use tower_usage::UsageRecord;
use tower_usage::sqlite::{LedgerError, Settle, SettleError, SettleFuture, SqliteLedger};

/// Counters in memory that follow the ledger: filled from it at start, settled by it from then on. Σ counters = Σ
/// records, whatever happened in between.
#[derive(Clone)]
pub struct Counters {
    store: Arc<MemoryStore>,
    started_at: SystemTime,
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
        store: Arc<MemoryStore>,
        ledger: &SqliteLedger,
        since: SystemTime,
        started_at: SystemTime,
    ) -> Result<Self, LedgerError> {
        for used in ledger.used_by_period(since)? {
            let cost = u64::try_from(used.cost.as_nanos()).unwrap_or(0);
            let amounts = Amounts::new()
                .tokens(used.tokens)
                .nano_usd(cost)
                .calls(used.calls);
            store.add_used(&used.user_id, used.day, amounts);
        }
        Ok(Self { store, started_at })
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
        let cost = record
            .cost
            .and_then(|cost| u64::try_from(cost.as_nanos()).ok())
            .unwrap_or(0);
        let used = Amounts::new()
            .tokens(record.tokens.total())
            .nano_usd(cost)
            .calls(record.calls);
        let store = Arc::clone(&self.store);
        let started_at = self.started_at;
        let settling = store.settle(&ticket, used);
        SettleFuture::boxed(async move {
            match settling.await {
                // Admitted by us and forgotten since: its reservation ended long ago, what it took counts all the same.
                Ok(Settled::Unknown) if ticket.admitted_at() >= started_at => {
                    store.add_used(ticket.subject(), ticket.admitted_at(), used);
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(SettleError::Unavailable(Box::new(error))),
            }
        })
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}
