use tokio_postgres::Client;

use crate::sqlite::LedgerError;

/// What each version of the tables of a database added, the first one first; `token_usage_schema` there says which version
/// they are of.
pub const SCHEMA: [&str; 4] = [
    "records, by month",
    "what is cached for an hour",
    "idempotency keys",
    "answers that came to several servers",
];

/// One step per version. A step that was released is never changed.
///
/// An index on an answer's id is one on its hash, since there is no bound to its length and one to that of what is in an
/// index.
const STEPS: [&str; SCHEMA.len()] = [
    "
CREATE TABLE token_usage_logs (
    id uuid NOT NULL,
    ledger uuid NOT NULL,
    number bigint NOT NULL,
    user_id text NOT NULL,
    operation text NOT NULL,
    provider text,
    model text,
    requested_model text,
    session_key text,
    run_id text,
    response_id text,
    input_tokens bigint,
    output_tokens bigint,
    cache_read_tokens bigint,
    cache_write_tokens bigint,
    reasoning_tokens bigint,
    total_tokens bigint NOT NULL,
    calls bigint NOT NULL,
    cost_nano_usd bigint,
    input_price bigint,
    output_price bigint,
    cache_read_price bigint,
    cache_write_price bigint,
    source text NOT NULL,
    outcome text NOT NULL,
    metadata jsonb,
    settle_ref text,
    admitted_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (id, admitted_at)
) PARTITION BY RANGE (admitted_at);
CREATE INDEX token_usage_logs_by_user ON token_usage_logs (user_id, admitted_at, id);
CREATE INDEX token_usage_logs_by_time ON token_usage_logs (admitted_at, id);
CREATE INDEX token_usage_logs_by_response ON token_usage_logs (hashtextextended(response_id, 0), admitted_at)
    WHERE response_id IS NOT NULL;
CREATE INDEX token_usage_logs_unpriced ON token_usage_logs (admitted_at, id)
    WHERE cost_nano_usd IS NULL AND total_tokens > 0;
CREATE TABLE token_usage_logs_other PARTITION OF token_usage_logs DEFAULT;

-- How far each file was shipped.
CREATE TABLE token_usage_ledgers (
    ledger uuid NOT NULL PRIMARY KEY,
    up_to bigint NOT NULL,
    changes bigint NOT NULL,
    shipped_at timestamptz NOT NULL
);
",
    // Of what is written to a cache, what stays there for an hour, which has a price of its own.
    "
ALTER TABLE token_usage_logs ADD COLUMN cache_write_1h_tokens bigint;
ALTER TABLE token_usage_logs ADD COLUMN cache_write_1h_price bigint;
",
    // What a call has in common with its repetitions, if its client named it.
    "
ALTER TABLE token_usage_logs ADD COLUMN idempotency_key text;
",
    // Which record pays for an answer that came to several servers.
    "
CREATE TABLE token_usage_answers (
    name bytea NOT NULL PRIMARY KEY,
    record uuid NOT NULL,
    claims bigint NOT NULL DEFAULT 1,
    claimed_at timestamptz NOT NULL
);
CREATE INDEX token_usage_answers_by_time ON token_usage_answers (claimed_at);
",
];

/// The first of two keys of the locks that those who make tables hold. Arbitrary, the same in all versions.
pub(super) const LOCK: i32 = 0x7573_6167;

/// Brings the tables up to date. Other tables are not touched.
pub(super) async fn migrate(client: &mut Client) -> Result<(), LedgerError> {
    migrate_to(client, STEPS.len()).await
}

/// Brings them to this version, if they are of an earlier one.
pub(super) async fn migrate_to(client: &mut Client, version: usize) -> Result<(), LedgerError> {
    let known = STEPS.len() as i64;
    let found = apply(client, version).await?;
    if found > known {
        return Err(LedgerError::NewerSchema { found, known });
    }
    Ok(())
}

/// Applies the steps that are missing up to a version; gives the version there was.
async fn apply(client: &mut Client, until: usize) -> Result<i64, LedgerError> {
    let encoding = client
        .query_typed_one("SELECT current_setting('server_encoding')", &[])
        .await
        .and_then(|row| row.try_get::<_, String>(0))
        .map_err(LedgerError::postgres)?;
    if encoding != "UTF8" {
        return Err(LedgerError::Encoding(encoding));
    }
    // To ask whether it is there takes no right to make it.
    if let Some(version) = version(client).await.map_err(LedgerError::postgres)?
        && version >= until as i64
    {
        return Ok(version);
    }
    make(client, until).await.map_err(LedgerError::postgres)
}

async fn make(client: &mut Client, until: usize) -> Result<i64, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK}, 0)"))
        .await?;
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS token_usage_schema (version bigint NOT NULL);
             INSERT INTO token_usage_schema SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM token_usage_schema)",
        )
        .await?;
    let row = transaction
        .query_typed_one("SELECT version FROM token_usage_schema", &[])
        .await?;
    let found: i64 = row.try_get(0)?;
    let steps = STEPS.iter().take(until);
    for step in steps.skip(usize::try_from(found).unwrap_or(0)) {
        transaction.batch_execute(step).await?;
        transaction
            .batch_execute("UPDATE token_usage_schema SET version = version + 1")
            .await?;
    }
    transaction.commit().await?;
    Ok(found)
}

async fn version(client: &Client) -> Result<Option<i64>, tokio_postgres::Error> {
    let is_there = client
        .query_typed_one("SELECT to_regclass('token_usage_schema') IS NOT NULL", &[])
        .await?;
    if !is_there.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let row = client
        .query_typed_opt("SELECT version FROM token_usage_schema", &[])
        .await?;
    row.map(|row| row.try_get(0)).transpose()
}
