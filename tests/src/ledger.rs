//! What a gateway under test has in its ledger, and what its prices make of what a provider bills.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, Row};
use tokio::time::{Instant, sleep};

use crate::{
    error::{Error, Result},
    gateway::STORE,
    provider::{ModelCall, Tokens},
};

/// The longest wait for answers that clients have left to be read to their end and recorded.
const SETTLES: Duration = Duration::from_secs(60);

/// What the [configuration](crate::gateway::Config) says, in billionths of a dollar for a token.
const INPUT: u64 = 3_000;
const CACHE_READ: u64 = 300;
const CACHE_WRITE: u64 = 3_750;
const OUTPUT: u64 = 15_000;

/// One record.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// Its id, without hyphens.
    pub id: String,
    /// `run` or `model_call`.
    pub operation: String,
    /// Whom the model was called at.
    pub provider: Option<String>,
    /// The answer's id, as the provider said it.
    pub response_id: Option<String>,
    /// The run it belongs to, as far as that is known.
    pub run_id: Option<String>,
    /// By class; what is missing is none.
    pub tokens: Tokens,
    /// How much of the output was thinking, if that is known.
    pub reasoning: Option<u64>,
    /// All of them.
    pub total: u64,
    /// The cost in billionths of a dollar, if there is a price.
    pub nano_usd: Option<u64>,
    /// `exact`, `estimated`, ….
    pub source: String,
    /// `complete`, `aborted`, `failed`, ….
    pub outcome: String,
    /// Whether the quota has been told.
    pub is_settled: bool,
}

/// The records of somebody, of a gateway that has everything it keeps in `dir`: once there are so many of model calls and
/// nothing is left to be settled, oldest first.
///
/// # Errors
///
/// [`Error::Late`] with what there is after a minute, [`Error::Connection`] for the store.
pub async fn settled(dir: &Path, user: &str, model_calls: usize) -> Result<Vec<Recorded>> {
    settled_among(&[dir], user, model_calls).await
}

/// The same of several gateways, of which each has a ledger of its own.
///
/// # Errors
///
/// As [`settled`].
pub async fn settled_among(
    dirs: &[&Path],
    user: &str,
    model_calls: usize,
) -> Result<Vec<Recorded>> {
    let deadline = Instant::now() + SETTLES;
    loop {
        let mut records = Vec::new();
        for dir in dirs {
            let path = dir.join(STORE);
            let own = of_user(&path, user);
            let own = own.map_err(|error| Error::connection(path.display().to_string(), error))?;
            records.extend(own);
        }
        let calls = records
            .iter()
            .filter(|record| record.operation == "model_call")
            .count();
        if calls == model_calls && records.iter().all(|record| record.is_settled) {
            return Ok(records);
        }
        if Instant::now() > deadline {
            let what = format!("{model_calls} settled model calls of {user} in {records:#?}");
            return Err(Error::Late(SETTLES, what));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// What tokens cost.
#[must_use]
pub fn price(tokens: Tokens) -> u64 {
    [
        (tokens.input, INPUT),
        (tokens.cache_read, CACHE_READ),
        (tokens.cache_write, CACHE_WRITE),
        (tokens.output, OUTPUT),
    ]
    .into_iter()
    .map(|(count, price)| count.saturating_mul(price))
    .fold(0, u64::saturating_add)
}

/// The record of a call: the one that the provider was told the id of, or that knows the answer's.
#[must_use]
pub fn record_of<'a>(call: &ModelCall, records: &'a [Recorded]) -> Option<&'a Recorded> {
    let told = call
        .client_request_id
        .as_ref()
        .map(|id| id.replace('-', ""));
    records.iter().find(|record| {
        Some(&record.id) == told.as_ref() || record.response_id.as_ref() == Some(&call.id)
    })
}

fn of_user(path: &Path, user: &str) -> rusqlite::Result<Vec<Recorded>> {
    let ledger = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let query =
        "SELECT lower(hex(id)) AS hex_id, * FROM token_usage_logs WHERE user_id = ?1 ORDER BY id";
    let mut query = ledger.prepare(query)?;
    query.query_map([user], recorded)?.collect()
}

fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let count = |column: &str| {
        let count = row.get::<_, Option<i64>>(column)?;
        Ok::<_, rusqlite::Error>(count.map(i64::unsigned_abs))
    };
    let tokens = |class: &str| count(&format!("{class}_tokens")).map(Option::unwrap_or_default);
    Ok(Recorded {
        id: row.get("hex_id")?,
        operation: row.get("operation")?,
        provider: row.get("provider")?,
        response_id: row.get("response_id")?,
        run_id: row.get("run_id")?,
        tokens: Tokens {
            input: tokens("input")?,
            cache_read: tokens("cache_read")?,
            cache_write: tokens("cache_write")?,
            output: tokens("output")?,
            reasoning: tokens("reasoning")?,
        },
        reasoning: count("reasoning_tokens")?,
        total: tokens("total")?,
        nano_usd: count("cost_nano_usd")?,
        source: row.get("source")?,
        outcome: row.get("outcome")?,
        is_settled: count("settled")? == Some(1),
    })
}
