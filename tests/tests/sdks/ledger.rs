//! What the ledger has of the calls of the SDKs.

use std::{path::Path, time::Duration};

use gateway_tests::provider::{Api, ModelCall, Tokens};
use rusqlite::{Connection, OpenFlags, Row};
use tokio::time::{Instant, sleep};

/// The longest wait for answers that clients have left to be read to their end and recorded.
const SETTLES: Duration = Duration::from_secs(60);

/// What `[[price]]` says, in billionths of a dollar for a token.
const INPUT: u64 = 3_000;
const CACHE_READ: u64 = 300;
const CACHE_WRITE: u64 = 3_750;
const OUTPUT: u64 = 15_000;

/// One row of the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    id: String,
    response_id: Option<String>,
    provider: String,
    tokens: [u64; 4],
    reasoning: Option<u64>,
    total: u64,
    nano_usd: Option<u64>,
    source: String,
    outcome: String,
    is_settled: bool,
}

fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let count = |column: &str| {
        let count = row.get::<_, Option<i64>>(column)?;
        Ok::<_, rusqlite::Error>(count.map(i64::unsigned_abs))
    };
    let tokens = |class: &str| count(&format!("{class}_tokens")).map(Option::unwrap_or_default);
    Ok(Recorded {
        id: row.get("hex_id")?,
        response_id: row.get("response_id")?,
        provider: row.get("provider")?,
        tokens: [
            tokens("input")?,
            tokens("cache_read")?,
            tokens("cache_write")?,
            tokens("output")?,
        ],
        reasoning: count("reasoning_tokens")?,
        total: tokens("total")?,
        nano_usd: count("cost_nano_usd")?,
        source: row.get("source")?,
        outcome: row.get("outcome")?,
        is_settled: count("settled")? == Some(1),
    })
}

/// The rows of somebody, once all of their calls have one and nothing is left to be settled.
pub(crate) async fn rows(dir: &Path, user: &str, count: usize) -> Vec<Recorded> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let ledger = Connection::open_with_flags(dir.join("gateway.db"), flags).expect("the ledger");
    let query = "SELECT lower(hex(id)) AS hex_id, * FROM token_usage_logs WHERE user_id = ?1";
    let deadline = Instant::now() + SETTLES;
    loop {
        let mut query = ledger.prepare(query).expect("a query");
        let rows = query.query_map([user], recorded);
        let rows: rusqlite::Result<Vec<_>> = rows.and_then(Iterator::collect);
        let rows = rows.expect("rows");
        let is_settled = rows.len() == count && rows.iter().all(|row| row.is_settled);
        if is_settled || Instant::now() > deadline {
            assert_eq!(rows.len(), count, "one record for each call: {rows:#?}");
            assert!(is_settled, "{rows:#?}");
            return rows;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn classes(tokens: Tokens) -> [u64; 4] {
    [
        tokens.input,
        tokens.cache_read,
        tokens.cache_write,
        tokens.output,
    ]
}

fn price(tokens: [u64; 4]) -> u64 {
    let prices = [INPUT, CACHE_READ, CACHE_WRITE, OUTPUT];
    tokens
        .into_iter()
        .zip(prices)
        .map(|(count, price)| count * price)
        .sum()
}

/// The record of a call is the one that the provider was told the id of, or that knows the answer's.
fn record_of<'a>(call: &ModelCall, rows: &'a [Recorded]) -> Option<&'a Recorded> {
    let told = call
        .client_request_id
        .as_ref()
        .map(|id| id.replace('-', ""));
    rows.iter()
        .find(|row| Some(&row.id) == told.as_ref() || row.response_id.as_ref() == Some(&call.id))
}

/// Each record is what the provider bills for its call, and together they are what it bills somebody.
pub(crate) fn compare(calls: &[ModelCall], rows: &[Recorded]) {
    let (mut guessed, mut unbilled) = (0, 0);
    for call in calls.iter().filter(|call| call.status == 200) {
        let row = record_of(call, rows);
        let row = row.unwrap_or_else(|| panic!("no record of {call:?}: {rows:#?}"));
        let provider = if call.api == Api::Messages {
            "anthropic"
        } else {
            "openai"
        };
        assert_eq!(row.provider, provider, "{call:?}");
        if row.source == "exact" {
            assert_eq!(row.tokens, classes(call.tokens()), "{call:?} {row:?}");
            // Part of the output, so that it may be unknown.
            let reasoning = row.reasoning.unwrap_or(call.reasoning_tokens);
            assert_eq!(reasoning, call.reasoning_tokens, "{call:?} {row:?}");
            assert_eq!(row.total, call.tokens().total(), "{call:?} {row:?}");
            assert_eq!(row.nano_usd, Some(price(row.tokens)), "{call:?} {row:?}");
            assert!(call.finished, "{call:?} {row:?}");
        } else {
            // It was not read to its end.
            assert!(!call.finished, "{call:?} {row:?}");
            assert_eq!(
                (row.source.as_str(), row.outcome.as_str()),
                ("estimated", "aborted")
            );
            guessed += row.total;
            unbilled += call.tokens().total();
        }
    }
    let failures = calls.iter().filter(|call| call.status != 200).count();
    let failed: Vec<_> = rows.iter().filter(|row| row.outcome == "failed").collect();
    assert_eq!(failed.len(), failures, "{failed:#?}");
    assert!(failed.iter().all(|row| row.total == 0), "{failed:#?}");
    let left = calls
        .iter()
        .filter(|call| call.last_user.contains("-aborted:"))
        .count();
    let aborted = rows.iter().filter(|row| row.outcome == "aborted").count();
    assert_eq!(aborted, left, "{rows:#?}");

    let billed: Tokens = calls.iter().map(ModelCall::tokens).sum();
    let total: u64 = rows.iter().map(|row| row.total).sum();
    assert_eq!(total - guessed, billed.total() - unbilled);
    if guessed == 0 {
        let cost: u64 = rows.iter().filter_map(|row| row.nano_usd).sum();
        assert_eq!(cost, price(classes(billed)));
    }
}
