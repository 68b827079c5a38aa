use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rusqlite::{
    Connection, OptionalExtension, Row, TransactionBehavior, named_params, types::Type,
};

use super::{
    joins::Join,
    ledger::Mark,
    replay::{find_original, replay_of},
};
use crate::{NanoUsd, Operation, Outcome, Price, Rate, RecordId, Source, TokenCounts, UsageRecord};

/// What [`read`] reads.
pub(super) const COLUMNS: &str = "seq, id, user_id, operation, provider, model, requested_model, session_key, run_id, \
    response_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, reasoning_tokens, calls, \
    cost_nano_usd, input_price, output_price, cache_read_price, cache_write_price, cache_write_1h_price, source, outcome, metadata, settle_ref, \
    admitted_at, created_at, idempotency_key";

/// No count and no amount (nine million dollars) of a record is stored larger: SQLite refuses to add up what overflows
/// its integers, and of these a thousand fit. Also the largest a reader that has doubles only reads exactly.
const LARGEST: i64 = 1 << 53;

/// The statement that inserts a record into a table.
macro_rules! insert_into {
    ($table:literal) => {
        concat!("INSERT INTO ", $table, " (
    id, user_id, operation, provider, model, requested_model, session_key, run_id, response_id, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, reasoning_tokens, total_tokens, calls,
    cost_nano_usd, input_price, output_price, cache_read_price, cache_write_price, cache_write_1h_price, source, outcome, metadata, settle_ref, settled, admitted_at, created_at, idempotency_key
) VALUES (
    :id, :user_id, :operation, :provider, :model, :requested_model, :session_key, :run_id, :response_id, :input,
    :output, :cache_read, :cache_write, :cache_write_1h, :reasoning, :total, :calls, :cost,
    :input_price, :output_price, :cache_read_price, :cache_write_price, :cache_write_1h_price, :source, :outcome, :metadata, :settle_ref, :settled, :admitted_at, :created_at, :idempotency_key
) ON CONFLICT (id) DO NOTHING")
    };
}

const INSERT: &str = insert_into!("token_usage_logs");
const BEGIN: &str = insert_into!("token_usage_begun");

/// The state of a row towards its settler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Settled {
    /// Still to be settled.
    No = 0,
    /// Settled, or nothing to settle.
    Yes = 1,
    /// The settler will never take it.
    Refused = 2,
}

/// A row as it was stored, or found to be stored before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) seq: i64,
    pub(super) to_settle: bool,
    /// The record that it repeats.
    pub(super) original: Option<RecordId>,
}

/// Stores a record, once by its id, and as free if it repeats another; what was kept of it since it began is not needed
/// any more.
pub(super) fn insert(
    conn: &Connection,
    record: &UsageRecord,
    join: Option<&Join>,
) -> Result<Stored, rusqlite::Error> {
    let to_settle = record.settle_ref.is_some();
    let original = find_original(conn, record)?;
    let replay = original.map(|original| replay_of(original, record.clone()));
    let inserted = put(conn, INSERT, replay.as_ref().unwrap_or(record), join)?;
    forget(conn, record.id)?;
    if inserted == 1 {
        return Ok(Stored {
            seq: conn.last_insert_rowid(),
            to_settle,
            original,
        });
    }
    // It was recorded twice, or a commit failed after it had taken effect: what is stored decides.
    let id = record.id.as_u128().to_be_bytes();
    let stored = conn
        .prepare_cached("SELECT seq, settled FROM token_usage_logs WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(Stored {
                seq: row.get(0)?,
                to_settle: row.get::<_, i64>(1)? == 0,
                original,
            })
        })
        .optional()?;
    stored.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Keeps a record of a call that begins.
pub(super) fn begin(conn: &Connection, record: &UsageRecord) -> Result<(), rusqlite::Error> {
    put(conn, BEGIN, record, None).map(drop)
}

/// Forgets a call that began and is not to be recorded.
pub(super) fn forget(conn: &Connection, id: RecordId) -> Result<(), rusqlite::Error> {
    let id = id.as_u128().to_be_bytes();
    conn.prepare_cached("DELETE FROM token_usage_begun WHERE id = ?1")?
        .execute([id])
        .map(drop)
}

/// Records, as they stood when they began, the calls that nobody ended.
pub(super) fn recover(conn: &mut Connection) -> Result<usize, rusqlite::Error> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let columns = COLUMNS.trim_start_matches("seq, ");
    let recovered = tx.execute(
        &format!(
            "INSERT INTO token_usage_logs ({columns}, total_tokens, settled) \
             SELECT {columns}, total_tokens, settled FROM token_usage_begun WHERE true ORDER BY id \
             ON CONFLICT (id) DO NOTHING"
        ),
        [],
    )?;
    tx.execute("DELETE FROM token_usage_begun", [])?;
    tx.commit()?;
    Ok(recovered)
}

/// Up to where the ledger was when this name was first asked for.
pub(super) fn mark(
    conn: &Connection,
    name: &str,
    now: SystemTime,
) -> Result<Mark, rusqlite::Error> {
    conn.prepare_cached(
        "INSERT INTO token_usage_marks SELECT ?1, coalesce(max(seq), 0), ?2 FROM token_usage_logs WHERE true
         ON CONFLICT (name) DO NOTHING",
    )?
    .execute((name, millis(now)))?;
    let found = find_mark(conn, name)?;
    found.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

pub(super) fn find_mark(conn: &Connection, name: &str) -> Result<Option<Mark>, rusqlite::Error> {
    conn.prepare_cached("SELECT number, marked_at FROM token_usage_marks WHERE name = ?1")?
        .query_row([name], |row| {
            Ok(Mark {
                number: count(row.get(0)?),
                at: time(row.get(1)?),
            })
        })
        .optional()
}

/// Puts a record into a table; gives how many rows that added.
fn put(
    conn: &Connection,
    insert: &str,
    record: &UsageRecord,
    join: Option<&Join>,
) -> Result<usize, rusqlite::Error> {
    let to_settle = record.settle_ref.is_some();
    let run_id = record.run_id.as_deref().or(join.map(|join| &*join.run_id));
    let session_key = record
        .session_key
        .as_deref()
        .or(join.and_then(|join| join.session_key.as_deref()));
    let id = record.id.as_u128().to_be_bytes();
    conn.prepare_cached(insert)?.execute(named_params! {
        ":id": id,
        ":user_id": &*record.subject,
        ":operation": record.operation.as_str(),
        ":provider": record.provider.as_deref(),
        ":model": record.model.as_deref(),
        ":requested_model": record.requested_model.as_deref(),
        ":session_key": session_key,
        ":run_id": run_id,
        ":response_id": record.response_id.as_deref(),
        ":input": record.tokens.input.map(integer),
        ":output": record.tokens.output.map(integer),
        ":cache_read": record.tokens.cache_read.map(integer),
        ":cache_write": record.tokens.cache_write.map(integer),
        ":cache_write_1h": record.tokens.cache_write_1h.map(integer),
        ":reasoning": record.tokens.reasoning.map(integer),
        ":total": integer(record.tokens.total()),
        ":calls": integer(record.calls),
        ":cost": record.cost.map(money),
        ":input_price": record.rate.map(|rate| price(rate.input_price())),
        ":output_price": record.rate.map(|rate| price(rate.output_price())),
        ":cache_read_price": record.rate.map(|rate| price(rate.cache_read_price())),
        ":cache_write_price": record.rate.map(|rate| price(rate.cache_write_price())),
        ":cache_write_1h_price": record.rate.and_then(|rate| rate.cache_write_1h_price()).map(price),
        ":source": record.source.as_str(),
        ":outcome": record.outcome.as_str(),
        ":metadata": record.metadata.as_deref(),
        ":settle_ref": record.settle_ref.as_deref(),
        ":settled": if to_settle { Settled::No } else { Settled::Yes } as i64,
        ":admitted_at": millis(record.admitted_at),
        ":created_at": millis(record.ended_at),
        ":idempotency_key": record.idempotency_key.as_deref(),
    })
}

/// Selects rows that are not settled, after one and up to another, at most so many.
pub(super) fn unsettled_query() -> String {
    format!(
        "SELECT {COLUMNS} FROM token_usage_logs WHERE settled = 0 AND seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3"
    )
}

/// Reads a record.
pub(super) fn read(row: &Row<'_>) -> Result<UsageRecord, rusqlite::Error> {
    Ok(UsageRecord {
        id: RecordId::from_u128(u128::from_be_bytes(row.get("id")?)),
        subject: row.get("user_id")?,
        operation: name(row, "operation", Operation::from_name)?,
        admitted_at: time(row.get("admitted_at")?),
        ended_at: time(row.get("created_at")?),
        provider: row.get("provider")?,
        model: row.get("model")?,
        requested_model: row.get("requested_model")?,
        response_id: row.get("response_id")?,
        idempotency_key: row.get("idempotency_key")?,
        run_id: row.get("run_id")?,
        session_key: row.get("session_key")?,
        tokens: TokenCounts {
            input: row.get::<_, Option<i64>>("input_tokens")?.map(count),
            output: row.get::<_, Option<i64>>("output_tokens")?.map(count),
            cache_read: row.get::<_, Option<i64>>("cache_read_tokens")?.map(count),
            cache_write: row.get::<_, Option<i64>>("cache_write_tokens")?.map(count),
            cache_write_1h: row
                .get::<_, Option<i64>>("cache_write_1h_tokens")?
                .map(count),
            reasoning: row.get::<_, Option<i64>>("reasoning_tokens")?.map(count),
        },
        calls: count(row.get("calls")?),
        cost: row
            .get::<_, Option<i64>>("cost_nano_usd")?
            .map(NanoUsd::from_nanos),
        rate: rate(row)?,
        source: name(row, "source", Source::from_name)?,
        outcome: name(row, "outcome", Outcome::from_name)?,
        metadata: row.get("metadata")?,
        settle_ref: row.get("settle_ref")?,
        number: None,
    })
}

/// The rate of a row, if it was priced.
fn rate(row: &Row<'_>) -> Result<Option<Rate>, rusqlite::Error> {
    let price = |column| {
        let price: Option<i64> = row.get(column)?;
        Ok::<_, rusqlite::Error>(price.map(|nanos| Price::from_nanos_per_million(count(nanos))))
    };
    let (Some(input), Some(output)) = (price("input_price")?, price("output_price")?) else {
        return Ok(None);
    };
    let rate = Rate::new(input, output)
        .cache_read(price("cache_read_price")?.unwrap_or(input))
        .cache_write(price("cache_write_price")?.unwrap_or(input));
    let rate = match price("cache_write_1h_price")? {
        Some(price) => rate.cache_write_1h(price),
        None => rate,
    };
    Ok(Some(rate))
}

fn name<T>(
    row: &Row<'_>,
    column: &str,
    parse: fn(&str) -> Option<T>,
) -> Result<T, rusqlite::Error> {
    let name: Arc<str> = row.get(column)?;
    parse(&name).ok_or_else(|| {
        let error = format!("unknown {column}");
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into())
    })
}

/// A count as it is stored. One beyond the largest is as good as the largest.
pub(crate) fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(LARGEST).min(LARGEST)
}

/// A price as it is stored.
fn price(price: Price) -> i64 {
    integer(price.as_nanos_per_million())
}

/// An amount as it is stored.
pub(crate) fn money(amount: NanoUsd) -> i64 {
    amount.as_nanos().clamp(-LARGEST, LARGEST)
}

pub(crate) fn count(integer: i64) -> u64 {
    u64::try_from(integer).unwrap_or(0)
}

/// Milliseconds since the epoch, rounded towards the past.
pub(crate) fn millis(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            let nanos = before.duration().as_nanos();
            i64::try_from(nanos.div_ceil(1_000_000)).map_or(i64::MIN, |millis| -millis)
        }
    }
}

pub(crate) fn time(millis: i64) -> SystemTime {
    let distance = Duration::from_millis(millis.unsigned_abs());
    let time = match millis {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_also_before_the_epoch() {
        for millis_ in [0, 1, -1, 1_790_000_000_123, i64::from(i32::MIN)] {
            assert_eq!(millis(time(millis_)), millis_);
        }
        let fraction = SystemTime::UNIX_EPOCH - Duration::from_micros(1);
        assert_eq!(millis(fraction), -1);
        assert_eq!(
            millis(SystemTime::UNIX_EPOCH + Duration::from_micros(1_999)),
            1
        );
    }
}
