use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::LedgerError;

/// One step per version. A step that was released is never changed.
const STEPS: [&str; 4] = [
    "
CREATE TABLE token_usage_logs (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    provider TEXT,
    model TEXT,
    requested_model TEXT,
    session_key TEXT,
    run_id TEXT,
    response_id TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens INTEGER,
    total_tokens INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    cost_nano_usd INTEGER,
    source TEXT NOT NULL,
    outcome TEXT NOT NULL,
    settle_ref TEXT,
    settled INTEGER NOT NULL,
    admitted_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX token_usage_logs_by_user ON token_usage_logs (user_id, admitted_at);
CREATE INDEX token_usage_logs_by_time ON token_usage_logs (admitted_at);
CREATE INDEX token_usage_logs_by_response ON token_usage_logs (response_id) WHERE response_id IS NOT NULL;
CREATE INDEX token_usage_logs_unsettled ON token_usage_logs (seq) WHERE settled = 0;
",
    // What is known of calls while they are answered.
    "
CREATE TABLE token_usage_begun (
    id BLOB NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    provider TEXT,
    model TEXT,
    requested_model TEXT,
    session_key TEXT,
    run_id TEXT,
    response_id TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens INTEGER,
    total_tokens INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    cost_nano_usd INTEGER,
    source TEXT NOT NULL,
    outcome TEXT NOT NULL,
    settle_ref TEXT,
    settled INTEGER NOT NULL,
    admitted_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    // Which ledger this is, and up to where it was counted elsewhere.
    "
CREATE TABLE token_usage_ledger (id BLOB NOT NULL) STRICT;
INSERT INTO token_usage_ledger VALUES (randomblob(16));
CREATE TABLE token_usage_marks (
    name TEXT NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL,
    marked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    // At which price, in nano-USD per million tokens, and what else is known.
    "
ALTER TABLE token_usage_logs ADD COLUMN input_price INTEGER;
ALTER TABLE token_usage_logs ADD COLUMN output_price INTEGER;
ALTER TABLE token_usage_logs ADD COLUMN cache_read_price INTEGER;
ALTER TABLE token_usage_logs ADD COLUMN cache_write_price INTEGER;
ALTER TABLE token_usage_logs ADD COLUMN metadata TEXT;
ALTER TABLE token_usage_begun ADD COLUMN input_price INTEGER;
ALTER TABLE token_usage_begun ADD COLUMN output_price INTEGER;
ALTER TABLE token_usage_begun ADD COLUMN cache_read_price INTEGER;
ALTER TABLE token_usage_begun ADD COLUMN cache_write_price INTEGER;
ALTER TABLE token_usage_begun ADD COLUMN metadata TEXT;
CREATE INDEX token_usage_logs_unpriced ON token_usage_logs (seq) WHERE cost_nano_usd IS NULL AND total_tokens > 0;
",
];

/// Brings the tables of a file up to date. Other tables of the file are not touched.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), LedgerError> {
    let known = STEPS.len() as i64;
    let found = apply(conn).map_err(LedgerError::store)?;
    if found > known {
        return Err(LedgerError::NewerSchema { found, known });
    }
    Ok(())
}

/// Applies the steps that are missing; gives the version the file had.
fn apply(conn: &mut Connection) -> Result<i64, rusqlite::Error> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS token_usage_schema (version INTEGER NOT NULL) STRICT",
    )?;
    let version = tx
        .query_row("SELECT version FROM token_usage_schema", [], |row| {
            row.get(0)
        })
        .optional()?;
    let found: i64 = version.unwrap_or(0);
    let missing = STEPS.iter().skip(usize::try_from(found).unwrap_or(0));
    if version.is_none() {
        tx.execute("INSERT INTO token_usage_schema VALUES (0)", [])?;
    }
    for step in missing {
        tx.execute_batch(step)?;
        tx.execute("UPDATE token_usage_schema SET version = version + 1", [])?;
    }
    tx.commit()?;
    Ok(found)
}
