use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{Claim, MOST, WITHIN};
use crate::{
    RecordId,
    postgres::{LedgerError, PostgresLedger, Text, Value, get},
};

/// The answers that were paid for, in Postgres.
pub(super) struct Answers {
    database: PostgresLedger,
    /// When what is old was forgotten.
    swept: Mutex<Option<Instant>>,
}

/// How often what is old is forgotten.
const SWEEP: Duration = Duration::from_secs(3_600);

/// Whose it is to pay for the answer `$1`: the record `$2`, unless another was first. And whether the provider gives that
/// answer's id, `$3`, to answers of others than the user `$4` or to other requests than `$5`, so that it says nothing.
const CLAIM: &str = "
WITH claim AS (
    INSERT INTO token_usage_answers AS answers (name, record, claimed_at)
    VALUES (sha256(convert_to($1, 'UTF8')), $2, now())
    ON CONFLICT (name) DO UPDATE SET claims = answers.claims + 1
    RETURNING record, claims)
SELECT record, claims, EXISTS (SELECT 1 FROM token_usage_logs
    WHERE hashtextextended(response_id, 0) = hashtextextended($3, 0) AND response_id = $3
        AND (user_id <> $4 OR idempotency_key IS DISTINCT FROM $5) AND total_tokens > 0) AS is_common
FROM claim";

const FORGET: &str = "DELETE FROM token_usage_answers WHERE claimed_at < now() - interval '7 days'";

// === impl Answers ===

impl Answers {
    pub(super) fn new(database: PostgresLedger) -> Self {
        Self {
            database: database.timeout(WITHIN),
            swept: Mutex::default(),
        }
    }

    pub(super) async fn first(&self, claim: &Claim<'_>) -> Result<Option<RecordId>, LedgerError> {
        let id = Uuid::from_u128(claim.record.as_u128());
        let (name, response_id) = (Text(&claim.name), Text(claim.response_id));
        let (user, key) = (Text(claim.user), Text(claim.key));
        let values: [Value<'_>; 5] = [
            (&name, Type::TEXT),
            (&id, Type::UUID),
            (&response_id, Type::TEXT),
            (&user, Type::TEXT),
            (&key, Type::TEXT),
        ];
        let rows = self.database.query(CLAIM, &values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let first: Uuid = get(row, "record")?;
        let is_believed = get::<i64>(row, "claims")? <= MOST && !get::<bool>(row, "is_common")?;
        Ok(is_believed.then(|| RecordId::from_u128(first.as_u128())))
    }

    pub(super) async fn sweep(&self) {
        let is_due = {
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = swept.is_none_or(|at| at.elapsed() >= SWEEP);
            if is_due {
                *swept = Some(Instant::now());
            }
            is_due
        };
        if is_due && let Err(error) = self.database.query(FORGET, &[]).await {
            tracing::warn!(%error, "answers that were paid for long ago are not forgotten");
        }
    }
}
