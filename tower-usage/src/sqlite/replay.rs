//! Answers that a provider gave twice.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::row::integer;
use crate::{NanoUsd, RecordId, Source, TokenCounts, UsageRecord, price::with_front};

/// The record of the same answer to the same request of the same client, which was paid for.
///
/// The same is what is named by the same key, has the same id and used the same, exactly: who worked twice does not do
/// so. Asked within the transaction that stores the record, by the only one who stores, it is found if it is there.
const FIND: &str = "
SELECT id FROM token_usage_logs INDEXED BY token_usage_logs_by_key
WHERE idempotency_key = :key AND response_id = :response_id AND user_id = :user_id AND provider IS :provider
    AND model IS :model AND source = 'exact' AND input_tokens IS :input AND output_tokens IS :output
    AND cache_read_tokens IS :cache_read AND cache_write_tokens IS :cache_write
    AND cache_write_1h_tokens IS :cache_write_1h AND reasoning_tokens IS :reasoning AND id <> :id
ORDER BY seq LIMIT 1";

/// How many records there are of an answer, at most so many, and how many of them are not of this request. Records that
/// repeat another have no key, and used nothing.
const LOOK: &str = "
SELECT count(*), coalesce(sum(user_id <> :user_id OR idempotency_key IS NOT :key AND total_tokens > 0), 0)
FROM (SELECT user_id, idempotency_key, total_tokens FROM token_usage_logs INDEXED BY token_usage_logs_by_response
    WHERE response_id = :response_id LIMIT :most)";

/// So many records of one answer are believed. Nobody tries more often, and an id that is found so often is none: some
/// compatible providers give one to all answers, and work for each.
const MOST: i64 = 16;

/// Finds the record that this one repeats. Costs nothing for one whose call was not named.
pub(super) fn find_original(
    conn: &Connection,
    record: &UsageRecord,
) -> Result<Option<RecordId>, rusqlite::Error> {
    let (Some(key), Some(response_id), Source::Exact) =
        (&record.idempotency_key, &record.response_id, record.source)
    else {
        return Ok(None);
    };
    let tokens = &record.tokens;
    let found = conn
        .prepare_cached(FIND)?
        .query_row(
            named_params! {
                ":key": &**key,
                ":response_id": &**response_id,
                ":user_id": &*record.subject,
                ":provider": record.provider.as_deref(),
                ":model": record.model.as_deref(),
                ":input": tokens.input.map(integer),
                ":output": tokens.output.map(integer),
                ":cache_read": tokens.cache_read.map(integer),
                ":cache_write": tokens.cache_write.map(integer),
                ":cache_write_1h": tokens.cache_write_1h.map(integer),
                ":reasoning": tokens.reasoning.map(integer),
                ":id": record.id.as_u128().to_be_bytes(),
            },
            |row| row.get(0).map(u128::from_be_bytes),
        )
        .optional()?;
    let Some(found) = found else {
        return Ok(None);
    };
    let (all, others): (i64, i64) = conn.prepare_cached(LOOK)?.query_row(
        named_params! {
            ":key": &**key,
            ":response_id": &**response_id,
            ":user_id": &*record.subject,
            ":most": MOST,
        },
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let is_believed = all < MOST && others == 0;
    Ok(is_believed.then_some(RecordId::from_u128(found)))
}

/// A record of what was paid for by another.
pub(crate) fn replay_of(original: RecordId, record: UsageRecord) -> UsageRecord {
    UsageRecord {
        tokens: TokenCounts::default(),
        cost: Some(NanoUsd::ZERO),
        rate: None,
        // What is free is no original.
        idempotency_key: None,
        metadata: with_front(record.metadata, &format!(r#""replay":"{original}""#)),
        ..record
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{params_from_iter, types::Null};

    use super::*;
    use crate::sqlite::{LedgerOptions, SqliteLedger};

    #[test]
    fn the_queries_are_served_by_their_indexes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let ledger = SqliteLedger::open(path, LedgerOptions::new()).unwrap();
        let reader = ledger.reader();
        let plan = |query| {
            let mut query = reader
                .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
                .unwrap();
            let nulls = vec![Null; query.parameter_count()];
            let rows = query.query_map(params_from_iter(nulls), |row| {
                row.get::<_, String>("detail")
            });
            rows.unwrap().map(Result::unwrap).collect::<String>()
        };
        let found = plan(FIND);
        assert!(
            found.contains("token_usage_logs_by_key (idempotency_key=? AND response_id=?)"),
            "{found}"
        );
        let look = plan(LOOK);
        assert!(
            look.contains("token_usage_logs_by_response (response_id=?)"),
            "{look}"
        );
    }
}
