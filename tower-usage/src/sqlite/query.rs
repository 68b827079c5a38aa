use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Export, LedgerError, Mark, SqliteLedger,
    row::{self, count, integer, millis, time},
};
use crate::{
    NanoUsd, RecordId, SystemClock, UsageRecord,
    clock::Clock as _,
    query::{Group, GroupBy, GroupTotal, Sum},
};

const DAY: i64 = 86_400_000;

/// The aggregates that [`read_sum`] reads.
const SUMS: &str = "count(*) AS records, coalesce(sum(calls), 0) AS calls, \
    coalesce(sum(input_tokens), 0) AS input, coalesce(sum(output_tokens), 0) AS output, \
    coalesce(sum(cache_read_tokens), 0) AS cache_read, coalesce(sum(cache_write_tokens), 0) AS cache_write, \
    coalesce(sum(cache_write_1h_tokens), 0) AS cache_write_1h, \
    coalesce(sum(reasoning_tokens), 0) AS reasoning, coalesce(sum(total_tokens), 0) AS total, \
    coalesce(sum(cost_nano_usd), 0) AS cost, coalesce(sum(cost_nano_usd IS NULL), 0) AS unpriced, \
    coalesce(sum(source IN ('estimated', 'invalid')), 0) AS estimated";

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
/// Times are those of admission, from `from` until before `to`. `user` is whose records they are of: `"alice"`, or an
/// `Option<&str>` of which `None` is everybody's.
impl SqliteLedger {
    /// The sum of a user's records, or of everybody's.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Store`] if the file cannot be read.
    pub fn sum<'a>(
        &self,
        user: impl Into<Option<&'a str>>,
        from: SystemTime,
        to: SystemTime,
    ) -> Result<Sum, LedgerError> {
        let user = user.into();
        self.reader()
            .prepare_cached(&sum_query(user.is_some()))
            .and_then(|mut query| {
                query.query_row(params![user, millis(from), millis(to)], read_sum)
            })
            .map_err(LedgerError::store)
    }

    /// The sums of a user's records, or of everybody's, by day, model, conversation or user, in that order.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Store`] if the file cannot be read.
    pub fn totals<'a>(
        &self,
        user: impl Into<Option<&'a str>>,
        from: SystemTime,
        to: SystemTime,
        group_by: GroupBy,
    ) -> Result<Vec<GroupTotal>, LedgerError> {
        let user = user.into();
        let read = |row: &Row<'_>| {
            let group = match group_by {
                GroupBy::Day => Group::Day(time(row.get::<_, i64>("key")?.saturating_mul(DAY))),
                GroupBy::Model => Group::Model(row.get("key")?),
                GroupBy::Session => Group::Session(row.get("key")?),
                GroupBy::User => Group::User(row.get("key")?),
            };
            Ok(GroupTotal {
                group,
                sum: read_sum(row)?,
            })
        };
        let reader = self.reader();
        let mut query = reader
            .prepare_cached(&totals_query(user.is_some(), group_by))
            .map_err(LedgerError::store)?;
        let rows = query.query_map(params![user, millis(from), millis(to)], read);
        rows.and_then(Iterator::collect).map_err(LedgerError::store)
    }

    /// A user's records, or everybody's, latest first, at most `limit`, and from `before` on backwards if it is given.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Store`] if the file cannot be read.
    pub fn records<'a>(
        &self,
        user: impl Into<Option<&'a str>>,
        from: SystemTime,
        to: SystemTime,
        limit: usize,
        before: Option<RecordId>,
    ) -> Result<Vec<UsageRecord>, LedgerError> {
        let user = user.into();
        let reader = self.reader();
        let mut to = millis(to);
        let mut key = None;
        if let Some(id) = before {
            key = find_key(&reader, id, user).map_err(LedgerError::store)?;
            let Some((at, _)) = key else {
                return Ok(Vec::new());
            };
            // By which the index is entered: all that is later would be gone through otherwise.
            to = to.min(at.saturating_add(1));
        }
        let (at, seq) = key.unzip();
        let limit = integer(limit as u64);
        let params = params![user, millis(from), to, limit, at, seq];
        let mut query = reader
            .prepare_cached(&records_query(user.is_some(), key.is_some()))
            .map_err(LedgerError::store)?;
        let rows = query.query_map(params, row::read);
        rows.and_then(Iterator::collect).map_err(LedgerError::store)
    }

    /// The records of an answer, by the provider's id of it: the latest ones first, 100 at most. There is one, unless the
    /// provider gives an id to several answers.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Store`] if the file cannot be read.
    pub fn find_by_response(&self, response_id: &str) -> Result<Vec<UsageRecord>, LedgerError> {
        let reader = self.reader();
        let mut query = reader
            .prepare_cached(&response_query())
            .map_err(LedgerError::store)?;
        let rows = query.query_map([response_id], row::read);
        rows.and_then(Iterator::collect).map_err(LedgerError::store)
    }

    /// All records of a user, or everybody's, in the order of their admission, a page at a time.
    ///
    /// Other queries are let in between two pages, and nothing is held of the file meanwhile. A record that is stored
    /// after the page it belongs to was read is not in it.
    pub fn export<'a>(
        self: &Arc<Self>,
        user: impl Into<Option<&'a str>>,
        from: SystemTime,
        to: SystemTime,
    ) -> Export {
        Export::new(Arc::clone(self), user.into(), from, to)
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

/// Whose records, and when. Without the hint all records ever are read where they are grouped by user.
fn scope(of_user: bool) -> &'static str {
    if of_user {
        "token_usage_logs WHERE user_id = ?1 AND admitted_at >= ?2 AND admitted_at < ?3"
    } else {
        "token_usage_logs INDEXED BY token_usage_logs_by_time \
         WHERE ?1 IS NULL AND admitted_at >= ?2 AND admitted_at < ?3"
    }
}

fn sum_query(of_user: bool) -> String {
    format!("SELECT {SUMS} FROM {}", scope(of_user))
}

fn totals_query(of_user: bool, group_by: GroupBy) -> String {
    let key = match group_by {
        GroupBy::Day => "admitted_at / 86400000",
        GroupBy::Model => "model",
        GroupBy::Session => "session_key",
        GroupBy::User => "user_id",
    };
    let scope = scope(of_user);
    format!("SELECT {key} AS key, {SUMS} FROM {scope} GROUP BY 1 ORDER BY 1")
}

fn records_query(of_user: bool, before: bool) -> String {
    let (columns, scope) = (row::COLUMNS, scope(of_user));
    let before = match before {
        true => "AND (admitted_at, seq) < (?5, ?6)",
        false => "AND ?5 IS NULL AND ?6 IS NULL",
    };
    format!("SELECT {columns} FROM {scope} {before} ORDER BY admitted_at DESC, seq DESC LIMIT ?4")
}

/// Time and number of a record, if it is of the user.
fn find_key(
    conn: &Connection,
    id: RecordId,
    user: Option<&str>,
) -> Result<Option<(i64, i64)>, rusqlite::Error> {
    conn.prepare_cached(KEY)?
        .query_row(params![id.as_u128().to_be_bytes(), user], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

const KEY: &str = "SELECT admitted_at, seq FROM token_usage_logs WHERE id = ?1 AND user_id = coalesce(?2, user_id)";

fn response_query() -> String {
    let columns = row::COLUMNS;
    format!(
        "SELECT {columns} FROM token_usage_logs WHERE response_id = ?1 ORDER BY seq DESC LIMIT 100"
    )
}

/// The page after a record. `?2` is the time of that one.
pub(super) fn export_query(of_user: bool) -> String {
    let (columns, scope) = (row::COLUMNS, scope(of_user));
    format!(
        "SELECT {columns} FROM {scope} AND (admitted_at, seq) > (?2, ?4) ORDER BY admitted_at, seq LIMIT ?5"
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

fn read_sum(row: &Row<'_>) -> Result<Sum, rusqlite::Error> {
    let get = |name| row.get(name).map(count);
    Ok(Sum {
        records: get("records")?,
        calls: get("calls")?,
        input_tokens: get("input")?,
        output_tokens: get("output")?,
        cache_read_tokens: get("cache_read")?,
        cache_write_tokens: get("cache_write")?,
        cache_write_1h_tokens: get("cache_write_1h")?,
        reasoning_tokens: get("reasoning")?,
        total_tokens: get("total")?,
        cost: NanoUsd::from_nanos(row.get("cost")?),
        unpriced: get("unpriced")?,
        estimated: get("estimated")?,
    })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use rusqlite::{StatementStatus, ToSql, types::Null};

    use super::*;
    use crate::sqlite::LedgerOptions;

    #[test]
    fn every_query_is_served_by_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let ledger =
            SqliteLedger::open(directory.path().join("ledger.db"), LedgerOptions::new()).unwrap();
        let reader = ledger.reader();
        for (query, index) in [
            (sum_query(true), "by_user"),
            (totals_query(true, GroupBy::Day), "by_user"),
            (totals_query(true, GroupBy::Model), "by_user"),
            (totals_query(true, GroupBy::Session), "by_user"),
            (totals_query(true, GroupBy::User), "by_user"),
            (records_query(true, false), "by_user"),
            (records_query(true, true), "by_user"),
            (export_query(true), "by_user"),
            (sum_query(false), "by_time"),
            (totals_query(false, GroupBy::Day), "by_time"),
            (totals_query(false, GroupBy::Model), "by_time"),
            (totals_query(false, GroupBy::Session), "by_time"),
            (totals_query(false, GroupBy::User), "by_time"),
            (records_query(false, false), "by_time"),
            (records_query(false, true), "by_time"),
            (export_query(false), "by_time"),
            (response_query(), "by_response"),
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
        // Pages come in the order of the index, without sorting what there is.
        for query in [
            records_query(true, true),
            records_query(false, true),
            export_query(true),
            export_query(false),
            response_query(),
        ] {
            let mut explain = reader
                .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
                .unwrap();
            let mut rows = explain.raw_query();
            while let Some(row) = rows.next().unwrap() {
                let detail = row.get::<_, String>("detail").unwrap();
                println!("{detail}");
                assert!(!detail.contains("TEMP B-TREE"), "{query}");
            }
        }
    }

    /// Of a thousand users.
    const MILLION: &str = "
        PRAGMA cache_size = -400000; PRAGMA synchronous = OFF;
        INSERT INTO token_usage_logs (id, user_id, operation, model, session_key, response_id, input_tokens, total_tokens,
            calls, cost_nano_usd, source, outcome, settled, admitted_at, created_at)
        WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 999999)
        SELECT unhex(printf('%032x', n)), 'user ' || n * 7919 % 1000, 'model_call', 'm', 's', 'answer ' || n, 1, 1, 0, 1, 'exact',
            'complete', 1, n * 1000, n * 1000 FROM numbers";

    #[test]
    fn what_a_query_of_a_million_records_reads_is_what_it_answers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let ledger = SqliteLedger::open(&path, LedgerOptions::new()).unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch(MILLION)
            .unwrap();
        let reader = ledger.reader();
        let (user, nobody) = (Some("user 7"), None::<&str>);
        let (all, hour) = (0..i64::MAX, 3_600_000..7_200_000_i64);
        let mut steps = Vec::new();
        let mut ask =
            |query: String, user: Option<&str>, range: &Range<i64>, rest: &[&dyn ToSql]| {
                let mut statement = reader.prepare(&query).unwrap();
                let mut values: Vec<&dyn ToSql> = vec![&user, &range.start, &range.end];
                values.extend(rest);
                let mut rows = statement.query(&*values).unwrap();
                while rows.next().unwrap().is_some() {}
                drop(rows);
                assert_eq!(
                    statement.get_status(StatementStatus::FullscanStep),
                    0,
                    "{query}"
                );
                steps.push((statement.get_status(StatementStatus::VmStep), query));
            };
        for (user, range) in [(user, &all), (nobody, &hour)] {
            let of_user = user.is_some();
            ask(sum_query(of_user), user, range, &[]);
            for by in [
                GroupBy::Day,
                GroupBy::Model,
                GroupBy::Session,
                GroupBy::User,
            ] {
                ask(totals_query(of_user, by), user, range, &[]);
            }
            ask(
                records_query(of_user, false),
                user,
                &all,
                &[&100, &Null, &Null],
            );
            // With the end that `records` gives it.
            ask(
                records_query(of_user, true),
                user,
                &(0..500_000_001),
                &[&100, &500_000_000, &500_000],
            );
            ask(
                export_query(of_user),
                user,
                &(500_000_000..i64::MAX),
                &[&0, &1_000],
            );
        }
        for (steps, query) in steps {
            assert!(steps < 500_000, "{steps} steps of {query}");
        }
    }
}
