use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{LedgerError, PostgresLedger, row, value::Text};
use crate::{
    Begun, Full, RecordId, Sink, Source, UsageRecord, price::with_front, sqlite::replay::replay_of,
};

/// A sink by which an answer is paid for once, whichever of several servers its repetitions came to.
///
/// A ledger finds what it has itself. Of a record that could repeat one of another server (its client named the request,
/// its provider the answer, and its usage is exact) this asks the database before the ledger gets it; the first who asks
/// is the one who pays, also if they come at the same time. All other records go to the ledger at once, and nobody
/// waits in either case: the record has its place until it is there.
///
/// While the database does not answer, both are paid for; what was not asked has `"unclaimed":true` in its metadata, and
/// [is counted](Self::unclaimed).
///
/// What was answered is remembered for a week, in `token_usage_answers`. To claim takes the right to insert and update there.
///
/// # Examples
///
/// ```no_run
/// # use std::sync::Arc;
/// # use tower_usage::{postgres::{Once, PostgresLedger}, sqlite::SqliteLedger, UsageLayer};
/// # async fn run(ledger: Arc<SqliteLedger>, everywhere: PostgresLedger) {
/// let sink = Arc::new(Once::new(ledger, everywhere, &tokio::runtime::Handle::current()));
/// # }
/// ```
pub struct Once {
    ledger: Arc<dyn Sink>,
    claims: Arc<Claims>,
    runtime: Handle,
}

struct Claims {
    database: PostgresLedger,
    unclaimed: AtomicU64,
    /// When what is old was forgotten.
    swept: Mutex<Option<Instant>>,
}

/// Longest wait for the database, during which a record is only kept as it began.
const WITHIN: Duration = Duration::from_secs(2);

/// How often what is old is forgotten.
const SWEEP: Duration = Duration::from_secs(3_600);

/// So many claims of one answer are believed: see [`sqlite::replay`](crate::sqlite).
const MOST: i64 = 16;

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

// === impl Once ===

impl Once {
    /// Records into `ledger`, which is shipped to `database`; asks on `runtime`, whose time and I/O drivers must be enabled
    /// and which must outlive whatever records.
    pub fn new(ledger: Arc<dyn Sink>, database: PostgresLedger, runtime: &Handle) -> Self {
        Self {
            ledger,
            claims: Arc::new(Claims {
                database: database.timeout(WITHIN),
                unclaimed: AtomicU64::new(0),
                swept: Mutex::default(),
            }),
            runtime: runtime.clone(),
        }
    }

    /// How many records the database was not asked about, since it did not answer.
    #[must_use]
    pub fn unclaimed(&self) -> u64 {
        self.claims.unclaimed.load(Relaxed)
    }
}

impl Sink for Once {
    fn admit(&self) -> Result<(), Full> {
        self.ledger.admit()
    }

    fn begin(&self, record: &UsageRecord) -> Begun {
        self.ledger.begin(record)
    }

    fn record(&self, record: UsageRecord) {
        let Some(name) = name(&record) else {
            return self.ledger.record(record);
        };
        let (ledger, claims) = (Arc::clone(&self.ledger), Arc::clone(&self.claims));
        self.runtime.spawn(async move {
            ledger.record(claims.settle(&name, record).await);
            claims.sweep().await;
        });
    }

    fn forgo(&self, begun: Option<RecordId>) {
        self.ledger.forgo(begun);
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("unclaimed", &self.unclaimed())
            .finish_non_exhaustive()
    }
}

// === impl Claims ===

impl Claims {
    /// The record as it is to be stored.
    async fn settle(&self, name: &str, record: UsageRecord) -> UsageRecord {
        match self.claim(name, &record).await {
            Ok(Some(original)) => replay_of(original, record),
            Ok(None) => record,
            Err(error) => {
                self.unclaimed.fetch_add(1, Relaxed);
                tracing::warn!(%error, id = %record.id, "an answer is paid for without asking whether it was before");
                let metadata = with_front(record.metadata, r#""unclaimed":true"#);
                UsageRecord { metadata, ..record }
            }
        }
    }

    /// The record that paid for this answer, if it is another one.
    async fn claim(
        &self,
        name: &str,
        record: &UsageRecord,
    ) -> Result<Option<RecordId>, LedgerError> {
        let id = Uuid::from_u128(record.id.as_u128());
        let response_id = record.response_id.as_deref().map(Text);
        let user = Text(&record.subject);
        let key = record.idempotency_key.as_deref().map(Text);
        let values = [
            (&Text(name) as &(dyn ToSql + Sync), Type::TEXT),
            (&id, Type::UUID),
            (&response_id, Type::TEXT),
            (&user, Type::TEXT),
            (&key, Type::TEXT),
        ];
        let rows = self.database.query(CLAIM, &values).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let first: Uuid = row::get(row, "record")?;
        let is_believed =
            row::get::<i64>(row, "claims")? <= MOST && !row::get::<bool>(row, "is_common")?;
        Ok((is_believed && first != id).then(|| RecordId::from_u128(first.as_u128())))
    }

    /// Forgets what is old, now and then.
    async fn sweep(&self) {
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

/// What two records have in common of which one repeats the other, as [`sqlite::replay`](crate::sqlite) has it.
fn name(record: &UsageRecord) -> Option<String> {
    let (Some(key), Some(response_id), Source::Exact) =
        (&record.idempotency_key, &record.response_id, record.source)
    else {
        return None;
    };
    let UsageRecord {
        subject,
        provider,
        model,
        tokens,
        ..
    } = record;
    // Quoted, so that no two lists have one text.
    Some(format!(
        "{subject:?} {provider:?} {model:?} {key:?} {response_id:?} {tokens:?}"
    ))
}
