use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::LedgerError;

/// What each version of the tables of a file added, the first one first; `token_usage_schema` there says which version they
/// are of.
pub const SCHEMA: [&str; 7] = [
    "records",
    "calls under way",
    "which ledger it is, and marks",
    "prices, and what else is known",
    "shipping",
    "what is cached for an hour",
    "idempotency keys",
];

/// One step per version. A step that was released is never changed.
const STEPS: [&str; SCHEMA.len()] = [
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
    // How far the records were shipped elsewhere: all up to a number, and all changes up to a version. There is one row
    // once shipping has begun, and changes are kept from then on, whoever makes them. A version is never given twice:
    // what is shipped is told by its version. Of what cannot be shipped, why.
    "
CREATE TABLE token_usage_shipped (up_to INTEGER NOT NULL, changes INTEGER NOT NULL) STRICT;
CREATE TABLE token_usage_changed (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    seq INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;
CREATE TABLE token_usage_refused (
    seq INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    refused_at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER token_usage_logs_changed AFTER UPDATE OF
    user_id, operation, provider, model, requested_model, session_key, run_id, response_id, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, calls, cost_nano_usd,
    input_price, output_price, cache_read_price, cache_write_price, source, outcome, metadata, settle_ref, created_at
ON token_usage_logs WHEN EXISTS (SELECT 1 FROM token_usage_shipped) AND (
    old.user_id, old.operation, old.provider, old.model, old.requested_model, old.session_key, old.run_id,
    old.response_id, old.input_tokens, old.output_tokens, old.cache_read_tokens, old.cache_write_tokens,
    old.reasoning_tokens, old.total_tokens, old.calls, old.cost_nano_usd, old.input_price, old.output_price,
    old.cache_read_price, old.cache_write_price, old.source, old.outcome, old.metadata, old.settle_ref, old.created_at
) IS NOT (
    new.user_id, new.operation, new.provider, new.model, new.requested_model, new.session_key, new.run_id,
    new.response_id, new.input_tokens, new.output_tokens, new.cache_read_tokens, new.cache_write_tokens,
    new.reasoning_tokens, new.total_tokens, new.calls, new.cost_nano_usd, new.input_price, new.output_price,
    new.cache_read_price, new.cache_write_price, new.source, new.outcome, new.metadata, new.settle_ref, new.created_at
)
BEGIN
    INSERT INTO token_usage_changed (seq, changed_at) VALUES (new.seq, unixepoch() * 1000);
END;
",
    // Of what is written to a cache, what stays there for an hour, which has a price of its own. There was none before:
    // what is recorded stays as it was priced.
    "
ALTER TABLE token_usage_logs ADD COLUMN cache_write_1h_tokens INTEGER;
ALTER TABLE token_usage_logs ADD COLUMN cache_write_1h_price INTEGER;
ALTER TABLE token_usage_begun ADD COLUMN cache_write_1h_tokens INTEGER;
ALTER TABLE token_usage_begun ADD COLUMN cache_write_1h_price INTEGER;
DROP TRIGGER token_usage_logs_changed;
CREATE TRIGGER token_usage_logs_changed AFTER UPDATE OF
    user_id, operation, provider, model, requested_model, session_key, run_id, response_id, input_tokens,
    output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, reasoning_tokens, total_tokens, calls,
    cost_nano_usd, input_price, output_price, cache_read_price, cache_write_price, cache_write_1h_price, source, outcome,
    metadata, settle_ref, created_at
ON token_usage_logs WHEN EXISTS (SELECT 1 FROM token_usage_shipped) AND (
    old.user_id, old.operation, old.provider, old.model, old.requested_model, old.session_key, old.run_id,
    old.response_id, old.input_tokens, old.output_tokens, old.cache_read_tokens, old.cache_write_tokens,
    old.cache_write_1h_tokens, old.reasoning_tokens, old.total_tokens, old.calls, old.cost_nano_usd, old.input_price,
    old.output_price, old.cache_read_price, old.cache_write_price, old.cache_write_1h_price, old.source, old.outcome,
    old.metadata, old.settle_ref, old.created_at
) IS NOT (
    new.user_id, new.operation, new.provider, new.model, new.requested_model, new.session_key, new.run_id,
    new.response_id, new.input_tokens, new.output_tokens, new.cache_read_tokens, new.cache_write_tokens,
    new.cache_write_1h_tokens, new.reasoning_tokens, new.total_tokens, new.calls, new.cost_nano_usd, new.input_price,
    new.output_price, new.cache_read_price, new.cache_write_price, new.cache_write_1h_price, new.source, new.outcome,
    new.metadata, new.settle_ref, new.created_at
)
BEGIN
    INSERT INTO token_usage_changed (seq, changed_at) VALUES (new.seq, unixepoch() * 1000);
END;
",
    // What a call has in common with its repetitions, if its client named it. Few do.
    "
ALTER TABLE token_usage_logs ADD COLUMN idempotency_key TEXT;
ALTER TABLE token_usage_begun ADD COLUMN idempotency_key TEXT;
CREATE INDEX token_usage_logs_by_key ON token_usage_logs (idempotency_key, response_id) WHERE idempotency_key IS NOT NULL;
",
];

/// Brings the tables of a file up to date. Other tables of the file are not touched.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), LedgerError> {
    migrate_to(conn, STEPS.len())
}

/// Brings them to this version, if they are of an earlier one.
pub(super) fn migrate_to(conn: &mut Connection, version: usize) -> Result<(), LedgerError> {
    let known = STEPS.len() as i64;
    let found = apply(conn, version).map_err(LedgerError::store)?;
    if found > known {
        return Err(LedgerError::NewerSchema { found, known });
    }
    Ok(())
}

/// Applies the steps that are missing up to a version; gives the version the file had.
fn apply(conn: &mut Connection, until: usize) -> Result<i64, rusqlite::Error> {
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
    let steps = STEPS.iter().take(until);
    if version.is_none() {
        tx.execute("INSERT INTO token_usage_schema VALUES (0)", [])?;
    }
    for step in steps.skip(usize::try_from(found).unwrap_or(0)) {
        tx.execute_batch(step)?;
        tx.execute("UPDATE token_usage_schema SET version = version + 1", [])?;
    }
    tx.commit()?;
    Ok(found)
}
