//! What is asked. In all of it `$1` and `$2` are from when until before when, and `$3` whose records: `NULL` is everybody's.

use super::GroupBy;

/// What [`row::read`](super::row::read) reads.
pub(super) const COLUMNS: &str = "id, user_id, operation, provider, model, requested_model, session_key, run_id, \
    response_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, reasoning_tokens, calls, \
    cost_nano_usd, input_price, output_price, cache_read_price, cache_write_price, cache_write_1h_price, source, outcome, \
    metadata::text AS metadata, settle_ref, admitted_at, created_at, \
    idempotency_key";

/// The time of a record, `$1`, if it is of the user `$2`.
pub(super) const FIND_TIME: &str = "SELECT admitted_at FROM token_usage_logs \
    WHERE id = $1 AND ($2 IS NULL OR user_id = $2) LIMIT 1";

/// Whose records, and when.
const fn scope(of_user: bool) -> &'static str {
    match of_user {
        true => {
            "FROM token_usage_logs WHERE admitted_at >= $1 AND admitted_at < $2 AND user_id = $3"
        }
        false => {
            "FROM token_usage_logs WHERE admitted_at >= $1 AND admitted_at < $2 AND $3::text IS NULL"
        }
    }
}

/// The aggregates that [`row::sum`](super::row::sum) reads. They are of a type without bounds before.
fn sums() -> String {
    let sum = |column: &str, name: &str| {
        format!(
            "greatest(least(coalesce(sum({column}), 0), 9223372036854775807), -9223372036854775808)::bigint AS {name}"
        )
    };
    let sums = [
        sum("calls", "calls"),
        sum("input_tokens", "input"),
        sum("output_tokens", "output"),
        sum("cache_read_tokens", "cache_read"),
        sum("cache_write_tokens", "cache_write"),
        sum("cache_write_1h_tokens", "cache_write_1h"),
        sum("reasoning_tokens", "reasoning"),
        sum("total_tokens", "total"),
        sum("cost_nano_usd", "cost"),
    ];
    format!(
        "count(*) AS records, {}, count(*) FILTER (WHERE cost_nano_usd IS NULL) AS unpriced, \
         count(*) FILTER (WHERE source IN ('estimated', 'invalid')) AS estimated",
        sums.join(", ")
    )
}

pub(super) fn sum(of_user: bool) -> String {
    format!("SELECT {} {}", sums(), scope(of_user))
}

/// In the order of SQLite: what has no key first, then by bytes.
pub(super) fn totals(of_user: bool, group_by: GroupBy) -> String {
    let key = match group_by {
        GroupBy::Day => "floor(extract(epoch FROM admitted_at) / 86400)::bigint",
        GroupBy::Model => "model COLLATE \"C\"",
        GroupBy::Session => "session_key COLLATE \"C\"",
        GroupBy::User => "user_id COLLATE \"C\"",
    };
    format!(
        "SELECT {key} AS key, {} {} GROUP BY 1 ORDER BY 1 NULLS FIRST",
        sums(),
        scope(of_user)
    )
}

/// `$4` at most; before the time `$5` and the id `$6`.
pub(super) fn records(of_user: bool, before: bool) -> String {
    let scope = scope(of_user);
    // The time by itself says which months have none.
    let before = match before {
        true => "AND admitted_at <= $5 AND (admitted_at, id) < ($5, $6)",
        false => "AND $5::timestamptz IS NULL AND $6::uuid IS NULL",
    };
    format!("SELECT {COLUMNS} {scope} {before} ORDER BY admitted_at DESC, id DESC LIMIT $4")
}

/// `$4` at most; after the id `$5` of the time `$1`.
pub(super) fn export(of_user: bool, after: bool) -> String {
    let scope = scope(of_user);
    let after = match after {
        true => "AND (admitted_at, id) > ($1, $5)",
        false => "AND $5::uuid IS NULL",
    };
    format!("SELECT {COLUMNS} {scope} {after} ORDER BY admitted_at, id LIMIT $4")
}

/// The records of the answer `$1`.
pub(super) fn by_response() -> String {
    format!(
        "SELECT {COLUMNS} FROM token_usage_logs \
         WHERE hashtextextended(response_id, 0) = hashtextextended($1, 0) AND response_id = $1 \
         ORDER BY admitted_at DESC LIMIT 100"
    )
}
