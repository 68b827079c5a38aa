use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tower_quota::{Amounts, StoreError, Ticket};
use tower_usage::sqlite::{LedgerError, Repriced, SqliteLedger};
use tower_usage::{PriceList, UsageRecord};
use tracing::warn;

use super::store::CounterStore;

/// Sets the ticket of a correction apart from that of the record itself.
const CORRECTION: u128 = 0x5f1d_92c4_7b6e_43a0_8e1f_0c57_d3b9_24e6;

/// How often it is tried to count a correction, and the pause in between.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// What [`reprice`] did.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Corrected {
    /// In the ledger.
    pub repriced: Repriced,
    /// Records whose cost the counters lack, because their store did not answer.
    pub uncounted: u64,
}

/// Prices what was recorded without a price, and counts what it cost. To be run in a task of its own: what is priced and
/// not counted is missing in the counters until their period ends.
///
/// # Errors
///
/// The ledger is closed.
pub async fn reprice(
    ledger: &SqliteLedger,
    prices: Arc<PriceList>,
    counters: CounterStore,
) -> Result<Corrected, LedgerError> {
    let (corrections, mut to_count) = mpsc::unbounded_channel();
    let counting = tokio::spawn(async move {
        let mut uncounted = 0;
        while let Some((ticket, used)) = to_count.recv().await {
            if let Err(error) = count(&counters, &ticket, used).await {
                let error = &error as &(dyn std::error::Error + 'static);
                warn!(error, "what a record costs afterwards is not counted");
                uncounted += 1;
            }
        }
        uncounted
    });
    let repriced = ledger.reprice(prices, move |record: &UsageRecord| {
        if let Some(correction) = correction(record) {
            // Whoever counts goes on until there are no more.
            let _ = corrections.send(correction);
        }
    });
    let repriced = repriced.await?;
    Ok(Corrected {
        repriced,
        uncounted: counting.await.unwrap_or(repriced.records),
    })
}

fn correction(record: &UsageRecord) -> Option<(Ticket, Amounts)> {
    let cost = u64::try_from(record.cost?.as_nanos()).ok()?;
    let id = record.id.as_u128() ^ CORRECTION;
    let ticket = Ticket::new(id, &record.subject, record.admitted_at);
    Some((ticket, Amounts::new().nano_usd(cost)))
}

async fn count(counters: &CounterStore, ticket: &Ticket, used: Amounts) -> Result<(), StoreError> {
    let mut attempt = 1;
    loop {
        match counters.count(ticket, used).await {
            Err(_) if attempt < ATTEMPTS => {
                attempt += 1;
                sleep(PAUSE).await;
            }
            counted => return counted,
        }
    }
}
