use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, Row, params};

use super::{
    LedgerError, Mark, SqliteLedger,
    row::{self, count, integer, millis, time},
};
use crate::{NanoUsd, RecordId, SystemClock, UsageRecord, clock::Clock as _};

const DAY: i64 = 86_400_000;

/// The aggregates that [`Sum::read`] reads.
const SUMS: &str = "count(*) AS records, coalesce(sum(calls), 0) AS calls, \
    coalesce(sum(input_tokens), 0) AS input, coalesce(sum(output_tokens), 0) AS output, \
    coalesce(sum(cache_read_tokens), 0) AS cache_read, coalesce(sum(cache_write_tokens), 0) AS cache_write, \
    coalesce(sum(reasoning_tokens), 0) AS reasoning, coalesce(sum(total_tokens), 0) AS total, \
    coalesce(sum(cost_nano_usd), 0) AS cost, coalesce(sum(cost_nano_usd IS NULL), 0) AS unpriced, \
    coalesce(sum(source IN ('estimated', 'invalid')), 0) AS estimated";

/// What the records of a user are added up by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum GroupBy {
    /// The day of admission, in UTC.
    Day,
    /// The model that answered.
    Model,
    /// The conversation.
    Session,
}

/// What a [`GroupTotal`] is the total of.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Group {
    /// The day that begins at this time, in UTC.
    Day(SystemTime),
    /// This model; `None` where no answer named one.
    Model(Option<Arc<str>>),
    /// This conversation; `None` where none is known.
    Session(Option<Arc<str>>),
}

/// The total of one group.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GroupTotal {
    /// Of what.
    pub group: Group,
    /// How much.
    pub sum: Sum,
}

/// Records added up. A count that was not reported adds nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Sum {
    /// How many records.
    pub records: u64,
    /// Runs.
    pub calls: u64,
    /// Prompt tokens outside of the cache.
    pub input_tokens: u64,
    /// Generated tokens, reasoning included.
    pub output_tokens: u64,
    /// Prompt tokens read from the cache.
    pub cache_read_tokens: u64,
    /// Prompt tokens written to the cache.
    pub cache_write_tokens: u64,
    /// Generated tokens of reasoning; part of `output_tokens`.
    pub reasoning_tokens: u64,
    /// What counts as tokens.
    pub total_tokens: u64,
    /// Money. What has no price adds nothing.
    pub cost: NanoUsd,
    /// Records of models without a price.
    pub unpriced: u64,
    /// Records whose tokens are estimated, those of which something impossible was said among them.
    pub estimated: u64,
}

/// What a user used in a quarter of an hour, or in a minute.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Used {
    /// Who.
    pub user_id: Arc<str>,
    /// Where the quarter of an hour of admission begins; of what was admitted within the last hour, the minute.
    pub at: SystemTime,
    /// What counts as tokens.
    pub tokens: u64,
    /// Money. What has no price adds nothing.
    pub cost: NanoUsd,
    /// Runs.
    pub calls: u64,
}

/// Queries. All block, for a read of the file and for each other: call them where that is allowed (`spawn_blocking`).
///
/// Times are those of admission, from `from` until before `to`.
impl SqliteLedger {
    /// The sum of a user's records.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Store`] if the file cannot be read.
    pub fn sum(&self, user: &str, from: SystemTime, to: SystemTime) -> Result<Sum, LedgerError> {
        self.reader()
            .prepare_cached(&sum_query())
            .and_then(|mut query| {
                query.query_row(params![user, millis(from), millis(to)], Sum::read)
            })
            .map_err(LedgerError::store)
    }

    /// The sums of a user's records, by day, model or conversation, in that order.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Store`] if the file cannot be read.
    pub fn totals(
        &self,
        user: &str,
        from: SystemTime,
        to: SystemTime,
        group_by: GroupBy,
    ) -> Result<Vec<GroupTotal>, LedgerError> {
        let read = |row: &Row<'_>| {
            let group = match group_by {
                GroupBy::Day => Group::Day(time(row.get::<_, i64>("key")?.saturating_mul(DAY))),
                GroupBy::Model => Group::Model(row.get("key")?),
                GroupBy::Session => Group::Session(row.get("key")?),
            };
            Ok(GroupTotal {
                group,
                sum: Sum::read(row)?,
            })
        };
        let reader = self.reader();
        let mut query = reader
            .prepare_cached(&totals_query(group_by))
            .map_err(LedgerError::store)?;
        let rows = query.query_map(params![user, millis(from), millis(to)], read);
        rows.and_then(Iterator::collect).map_err(LedgerError::store)
    }

    /// A user's records, latest first, at most `limit`, and from `before` on backwards if it is given.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Store`] if the file cannot be read.
    pub fn records(
        &self,
        user: &str,
        from: SystemTime,
        to: SystemTime,
        limit: usize,
        before: Option<RecordId>,
    ) -> Result<Vec<UsageRecord>, LedgerError> {
        let id = before.map(|id| id.as_u128().to_be_bytes());
        let params = params![user, millis(from), millis(to), integer(limit as u64), id];
        let reader = self.reader();
        let mut query = reader
            .prepare_cached(&records_query(before.is_some()))
            .map_err(LedgerError::store)?;
        let rows = query.query_map(params, row::read);
        rows.and_then(Iterator::collect).map_err(LedgerError::store)
    }

    /// What every user used since a time, for counters that are kept in memory and begin anew.
    ///
    /// It is summed up by quarters of an hour, since in every time zone of today a day begins with one, and for the last
    /// hour by minutes, so that counters of minutes, hours, days and months can be filled from it.
    ///
    /// Counts every record, also those whose settling is still to come: counters filled from this must not count again
    /// what is settled for records admitted by an earlier process. The [crate documentation](crate) shows how.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Store`] if the file cannot be read.
    pub fn used(&self, since: SystemTime) -> Result<Vec<Used>, LedgerError> {
        self.used_between(since, SystemClock.now(), i64::MAX)
    }

    /// The same of the records up to a mark, since that long before it: it stays the same ever after.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Store`] if the file cannot be read.
    pub fn used_until(&self, mark: &Mark, since: Duration) -> Result<Vec<Used>, LedgerError> {
        let from = mark.at.checked_sub(since).unwrap_or(UNIX_EPOCH);
        let number = i64::try_from(mark.number).unwrap_or(i64::MAX);
        self.used_between(from, mark.at, number)
    }

    fn used_between(
        &self,
        from: SystemTime,
        at: SystemTime,
        number: i64,
    ) -> Result<Vec<Used>, LedgerError> {
        let read = |row: &Row<'_>| {
            Ok(Used {
                user_id: row.get(0)?,
                at: time(row.get(1)?),
                tokens: count(row.get(2)?),
                cost: NanoUsd::from_nanos(row.get(3)?),
                calls: count(row.get(4)?),
            })
        };
        let reader = self.reader();
        let mut query = reader.prepare_cached(USED).map_err(LedgerError::store)?;
        let by_minute = millis(at).saturating_sub(HOUR);
        let rows = query.query_map([millis(from), by_minute, number], read);
        rows.and_then(Iterator::collect).map_err(LedgerError::store)
    }

    pub(super) fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sum_query() -> String {
    format!(
        "SELECT {SUMS} FROM token_usage_logs WHERE user_id = ?1 AND admitted_at >= ?2 AND admitted_at < ?3"
    )
}

fn totals_query(group_by: GroupBy) -> String {
    let key = match group_by {
        GroupBy::Day => "admitted_at / 86400000",
        GroupBy::Model => "model",
        GroupBy::Session => "session_key",
    };
    format!(
        "SELECT {key} AS key, {SUMS} FROM token_usage_logs \
         WHERE user_id = ?1 AND admitted_at >= ?2 AND admitted_at < ?3 GROUP BY 1 ORDER BY 1"
    )
}

fn records_query(before: bool) -> String {
    let columns = row::COLUMNS;
    let before = match before {
        true => {
            "AND (admitted_at, seq) < (SELECT admitted_at, seq FROM token_usage_logs WHERE id = ?5 AND user_id = ?1)"
        }
        false => "AND ?5 IS NULL",
    };
    format!(
        "SELECT {columns} FROM token_usage_logs WHERE user_id = ?1 AND admitted_at >= ?2 AND admitted_at < ?3 \
         {before} ORDER BY admitted_at DESC, seq DESC LIMIT ?4"
    )
}

/// Without the hint all records ever are read, in the order of the other index.
const USED: &str = "
SELECT user_id,
    CASE WHEN admitted_at >= ?2 THEN admitted_at / 60000 * 60000 ELSE admitted_at / 900000 * 900000 END AS at,
    sum(total_tokens), coalesce(sum(cost_nano_usd), 0), sum(calls)
FROM token_usage_logs INDEXED BY token_usage_logs_by_time
WHERE admitted_at >= ?1 AND seq <= ?3 GROUP BY user_id, at ORDER BY user_id, at";

/// In milliseconds.
const HOUR: i64 = 3_600_000;

// === impl Sum ===

impl Sum {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let get = |name| row.get(name).map(count);
        Ok(Self {
            records: get("records")?,
            calls: get("calls")?,
            input_tokens: get("input")?,
            output_tokens: get("output")?,
            cache_read_tokens: get("cache_read")?,
            cache_write_tokens: get("cache_write")?,
            reasoning_tokens: get("reasoning")?,
            total_tokens: get("total")?,
            cost: NanoUsd::from_nanos(row.get("cost")?),
            unpriced: get("unpriced")?,
            estimated: get("estimated")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::LedgerOptions;

    #[test]
    fn every_query_is_served_by_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let ledger =
            SqliteLedger::open(directory.path().join("ledger.db"), LedgerOptions::new()).unwrap();
        let reader = ledger.reader();
        for (query, index) in [
            (sum_query(), "by_user"),
            (totals_query(GroupBy::Day), "by_user"),
            (totals_query(GroupBy::Model), "by_user"),
            (totals_query(GroupBy::Session), "by_user"),
            (records_query(false), "by_user"),
            (records_query(true), "by_user"),
            (USED.to_owned(), "by_time"),
            (row::unsettled_query(), "unsettled"),
            (
                "SELECT run_id FROM token_usage_logs WHERE response_id = ?1".to_owned(),
                "by_response",
            ),
        ] {
            let mut explain = reader
                .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
                .unwrap();
            for n in 1..=explain.parameter_count() {
                explain.raw_bind_parameter(n, 0).unwrap();
            }
            let mut rows = explain.raw_query();
            let mut plan = String::new();
            while let Some(row) = rows.next().unwrap() {
                plan += &row.get::<_, String>("detail").unwrap();
                plan.push('\n');
            }
            let first = plan.lines().next().unwrap();
            assert!(
                first.contains(&format!("USING INDEX token_usage_logs_{index}")),
                "{query}\n{plan}"
            );
            assert!(!plan.contains("SCAN"), "{query}\n{plan}");
        }
        // Pages come in the order of the index, without sorting what a user has.
        let mut explain = reader
            .prepare(&format!("EXPLAIN QUERY PLAN {}", records_query(true)))
            .unwrap();
        let mut rows = explain.raw_query();
        while let Some(row) = rows.next().unwrap() {
            assert!(
                !row.get::<_, String>("detail")
                    .unwrap()
                    .contains("TEMP B-TREE")
            );
        }
    }
}
