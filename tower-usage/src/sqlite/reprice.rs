use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{
    LedgerError, SqliteLedger,
    command::Command,
    row::{self, Settled},
};
use crate::{NanoUsd, Price, PriceList, UsageRecord};

/// Rows of one page: of one transaction, between which the ledger does what else it is asked for.
const PAGE: usize = 512;

/// What [`SqliteLedger::reprice`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Repriced {
    /// Records that have a price now.
    pub records: u64,
    /// What they cost together.
    pub cost: NanoUsd,
    /// Records that have none still: their model is not in the list, or the amount does not fit.
    pub unpriced: u64,
    /// Records that wait to be settled, and were left as they are until then.
    pub unsettled: u64,
}

/// What the writer is asked for.
#[derive(Debug)]
pub(super) struct Reprice {
    prices: Arc<PriceList>,
    after: i64,
    done: oneshot::Sender<Page>,
}

/// What it answers.
#[derive(Debug, Default)]
pub(super) struct Page {
    repriced: Vec<UsageRecord>,
    unpriced: u64,
    unsettled: u64,
    /// The last row of a page after which there may be another.
    last: Option<i64>,
}

// === impl SqliteLedger ===

impl SqliteLedger {
    /// Prices the records that used tokens and have no cost: each as [`UsageRecord::price`] does, at the rate of its
    /// time of admission, from a list that has by now what was missing.
    ///
    /// Each record that is priced is told to `each` once its page is committed, with its cost and its
    /// [number](UsageRecord::number): it was settled at no cost, so that counters of money lack it. Records that wait
    /// to be settled stay as they are, since their settler counts what they cost: call again later.
    ///
    /// It changes the ledger; copies of records elsewhere stay as they were.
    ///
    /// A record that has a cost is never changed; what is called again finds only what is left. Goes on while other
    /// records are stored, and waits while the file cannot be written.
    ///
    /// Counters that begin from [`used`](Self::used) or [`used_until`](Self::used_until) have in them what was priced
    /// before they were filled, and must be filled when this is called. What was committed and not told (the process was
    /// killed in between) is therefore right in counters that begin anew, and lacking in others, until their period
    /// ends; in the ledger it is right.
    ///
    /// # Errors
    ///
    /// [`Closed`](LedgerError::Closed) after [`close`](Self::close); what was told before is done.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it leaves a ledger that is right, but up to one page of 512 records may be priced and
    /// not told. Where that matters, run it in a task of its own.
    pub async fn reprice(
        &self,
        prices: impl Into<Arc<PriceList>> + Send,
        mut each: impl FnMut(&UsageRecord) + Send,
    ) -> Result<Repriced, LedgerError> {
        let prices = prices.into();
        let mut sum = Repriced::default();
        let mut next = Some(0);
        while let Some(after) = next {
            let (done, answer) = oneshot::channel();
            self.tell(Command::Reprice(Reprice {
                prices: Arc::clone(&prices),
                after,
                done,
            }))?;
            let page = answer.await.map_err(|_| LedgerError::Closed)?;
            for record in &page.repriced {
                sum.records += 1;
                sum.cost = sum.cost.saturating_add(record.cost.unwrap_or_default());
                each(record);
            }
            sum.unpriced += page.unpriced;
            sum.unsettled += page.unsettled;
            next = page.last;
        }
        Ok(sum)
    }
}

// === impl Reprice ===

impl Reprice {
    /// Does one page; nothing if whoever asked has left.
    pub(super) fn run(&self, conn: &mut Connection) -> Result<Page, rusqlite::Error> {
        if self.done.is_closed() {
            return Ok(Page::default());
        }
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let page = Page::price(&tx, &self.prices, self.after)?;
        tx.commit()?;
        Ok(page)
    }

    pub(super) fn answer(self, page: Page) {
        // Whoever asked may have left.
        let _ = self.done.send(page);
    }
}

// === impl Page ===

impl Page {
    fn price(conn: &Connection, prices: &PriceList, after: i64) -> Result<Self, rusqlite::Error> {
        let mut page = Self::default();
        let mut count = 0;
        let mut select = conn.prepare_cached(&unpriced_query())?;
        let mut rows = select.query(params![after, PAGE as i64])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get("seq")?;
            count += 1;
            page.last = Some(seq);
            // Its settler may have it in memory without a cost, or read it from here with one: nobody knows which.
            if row.get::<_, i64>("settled")? == Settled::No as i64 {
                page.unsettled += 1;
                continue;
            }
            let mut record = match row::read(row) {
                Ok(record) => record,
                // It must not keep the others from being priced.
                Err(error) => {
                    tracing::error!(%error, seq, "usage record cannot be read, and is not priced");
                    page.unpriced += 1;
                    continue;
                }
            };
            record.price(prices);
            if update(conn, seq, &mut record)? {
                page.repriced.push(record);
            } else {
                page.unpriced += 1;
            }
        }
        if count < PAGE {
            page.last = None;
        }
        Ok(page)
    }
}

/// Stores what a record costs, if that is known now.
fn update(conn: &Connection, seq: i64, record: &mut UsageRecord) -> Result<bool, rusqlite::Error> {
    let (Some(cost), Some(rate)) = (record.cost, record.rate) else {
        return Ok(false);
    };
    let cost = row::integer(u64::try_from(cost.as_nanos()).unwrap_or(0));
    let price = |price: Price| row::integer(price.as_nanos_per_million());
    // A row that was shipped before changes here: whatever ships rows must be told in this statement (a column set, or
    // a row added beside, in the same transaction) to ship it again, and the other end must take the later one.
    conn.prepare_cached(
        "UPDATE token_usage_logs SET cost_nano_usd = ?2, input_price = ?3, output_price = ?4, cache_read_price = ?5, \
         cache_write_price = ?6, cache_write_1h_price = ?7, metadata = ?8 WHERE seq = ?1",
    )?
    .execute(params![
        seq,
        cost,
        price(rate.input_price()),
        price(rate.output_price()),
        price(rate.cache_read_price()),
        price(rate.cache_write_price()),
        rate.cache_write_1h_price().map(price),
        record.metadata.as_deref(),
    ])?;
    // As it is stored.
    record.cost = Some(NanoUsd::from_nanos(cost));
    record.number = u64::try_from(seq).ok();
    Ok(true)
}

/// Selects rows without a cost after one, at most so many.
fn unpriced_query() -> String {
    let columns = row::COLUMNS;
    format!(
        "SELECT {columns}, settled FROM token_usage_logs INDEXED BY token_usage_logs_unpriced \
         WHERE cost_nano_usd IS NULL AND total_tokens > 0 AND seq > ?1 ORDER BY seq LIMIT ?2"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::LedgerOptions;

    #[test]
    fn the_query_is_served_by_its_index() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let ledger = SqliteLedger::open(path, LedgerOptions::new()).unwrap();
        let reader = ledger.reader();
        let plan: String = reader
            .query_row(
                &format!("EXPLAIN QUERY PLAN {}", unpriced_query()),
                params![0, 1],
                |row| row.get("detail"),
            )
            .unwrap();
        assert!(
            plan.starts_with("SEARCH") && plan.contains("token_usage_logs_unpriced"),
            "{plan}"
        );
    }
}
