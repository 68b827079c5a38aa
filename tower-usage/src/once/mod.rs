//! Answers that came to several servers.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::runtime::Handle;

#[cfg(feature = "postgres")]
use crate::postgres::PostgresLedger;
use crate::{
    Begun, Full, RecordId, Sink, Source, UsageRecord, price::with_front, sqlite::replay::replay_of,
};

/// A sink by which an answer is paid for once, whichever of several servers its repetitions came to.
///
/// A ledger finds what it has itself. Of a record that could repeat one of another server (its client named the request,
/// its provider the answer, and its usage is exact) this asks what the servers share before the ledger gets it; the first
/// who asks is the one who pays, also if they come at the same time. All other records go to the ledger at once, and
/// nobody waits in either case: the record has its place until it is there.
///
/// While what is shared does not answer, both are paid for; what was not asked has `"unclaimed":true` in its metadata, and
/// [is counted](Self::unclaimed). What was answered is remembered for a week.
///
/// # Examples
///
/// ```no_run
/// # use std::sync::Arc;
/// # use tower_usage::{Claims, Once, postgres::PostgresLedger, sqlite::SqliteLedger};
/// # async fn run(ledger: Arc<SqliteLedger>, everywhere: PostgresLedger) {
/// let claims = Claims::postgres(everywhere);
/// let sink = Arc::new(Once::new(ledger, claims, &tokio::runtime::Handle::current()));
/// # }
/// ```
pub struct Once {
    ledger: Arc<dyn Sink>,
    claims: Arc<Claims>,
    unclaimed: Arc<AtomicU64>,
    runtime: Handle,
}

/// What servers share, and ask who of them pays for an answer.
pub struct Claims(Kind);

enum Kind {
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::Answers>),
    #[cfg(feature = "redis")]
    Redis(redis::Answers),
}

/// Redis cannot be used.
#[cfg(feature = "redis")]
#[derive(Debug, thiserror::Error)]
#[error("the answers that were paid for cannot be kept in Redis: {0}")]
pub struct ClaimsError(String);

/// One who wants to pay for an answer.
struct Claim<'a> {
    /// What two records have in common of which one repeats the other, as [`sqlite::replay`](crate::sqlite) has it.
    name: String,
    record: RecordId,
    response_id: &'a str,
    user: &'a str,
    key: &'a str,
}

/// Longest wait, during which a record is only kept as it began.
const WITHIN: Duration = Duration::from_secs(2);

/// So many claims of one answer are believed: see [`sqlite::replay`](crate::sqlite).
const MOST: i64 = 16;

// === impl Once ===

impl Once {
    /// Records into `ledger` what `claims` say is to be paid for, and that the rest was free; asks on `runtime`, whose time
    /// and I/O drivers must be enabled and which must outlive whatever records.
    pub fn new(ledger: Arc<dyn Sink>, claims: Claims, runtime: &Handle) -> Self {
        Self {
            ledger,
            claims: Arc::new(claims),
            unclaimed: Arc::default(),
            runtime: runtime.clone(),
        }
    }

    /// How many records could not be asked about, since what is shared did not answer.
    #[must_use]
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed.load(Relaxed)
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
        if Claim::of(&record).is_none() {
            return self.ledger.record(record);
        }
        let (ledger, claims) = (Arc::clone(&self.ledger), Arc::clone(&self.claims));
        let unclaimed = Arc::clone(&self.unclaimed);
        self.runtime.spawn(async move {
            ledger.record(claims.settle(record, &unclaimed).await);
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
            .field("claims", &self.claims)
            .field("unclaimed", &self.unclaimed())
            .finish_non_exhaustive()
    }
}

// === impl Claims ===

impl Claims {
    /// In the database that the servers' ledgers are shipped to, in `token_usage_answers`. To claim takes the right to
    /// insert, update and delete there.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub fn postgres(database: PostgresLedger) -> Self {
        let answers = postgres::Answers::new(database);
        Self(Kind::Postgres(Box::new(answers)))
    }

    /// In the Redis (6.2 or later) that the URL names: `redis://` or `rediss://` for TLS, with user and password or without,
    /// `redis-cluster://` or `rediss-cluster://` for a Cluster. What is kept are hashes `usage:answer:<digest>`, of which
    /// nothing can be read back. An answer that Redis lost is paid for once more.
    ///
    /// The connection belongs to the runtime that this is awaited on, and is made anew when it is lost.
    ///
    /// # Errors
    ///
    /// [`ClaimsError`] if the URL is none, or the server does not answer within five seconds.
    #[cfg(feature = "redis")]
    pub async fn redis(url: &str) -> Result<Self, ClaimsError> {
        Ok(Self(Kind::Redis(redis::Answers::connect(url).await?)))
    }

    /// The record as it is to be stored.
    async fn settle(&self, record: UsageRecord, unclaimed: &AtomicU64) -> UsageRecord {
        let Some(claim) = Claim::of(&record) else {
            return record;
        };
        match self.first(&claim).await {
            Ok(first) => match first.filter(|first| *first != record.id) {
                Some(original) => replay_of(original, record),
                None => record,
            },
            Err(error) => {
                unclaimed.fetch_add(1, Relaxed);
                tracing::warn!(%error, id = %record.id, "an answer is paid for without asking whether it was before");
                let metadata = with_front(record.metadata, r#""unclaimed":true"#);
                UsageRecord { metadata, ..record }
            }
        }
    }

    /// The record that was the first to claim this answer, unless that cannot be believed.
    async fn first(
        &self,
        claim: &Claim<'_>,
    ) -> Result<Option<RecordId>, Box<dyn Error + Send + Sync>> {
        match &self.0 {
            #[cfg(feature = "postgres")]
            Kind::Postgres(answers) => Ok(answers.first(claim).await?),
            #[cfg(feature = "redis")]
            Kind::Redis(answers) => Ok(answers.first(claim).await?),
        }
    }

    /// Forgets what is old, now and then.
    async fn sweep(&self) {
        match &self.0 {
            #[cfg(feature = "postgres")]
            Kind::Postgres(answers) => answers.sweep().await,
            #[cfg(feature = "redis")]
            Kind::Redis(_) => {}
        }
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.0 {
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => "postgres",
            #[cfg(feature = "redis")]
            Kind::Redis(_) => "redis",
        };
        f.debug_tuple("Claims").field(&place).finish()
    }
}

// === impl Claim ===

impl<'a> Claim<'a> {
    /// None for a record that cannot be known to repeat another.
    fn of(record: &'a UsageRecord) -> Option<Self> {
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
        Some(Self {
            // Quoted, so that no two lists have one text.
            name: format!("{subject:?} {provider:?} {model:?} {key:?} {response_id:?} {tokens:?}"),
            record: record.id,
            response_id,
            user: subject,
            key,
        })
    }
}
