use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bb8::Pool;
use bb8_postgres::PostgresConnectionManager;
use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::time::timeout;
use tokio_postgres::{
    Config, Row,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Kind,
    record::{Key, Record},
    store::{End, Ended, Store, StoreError, StoreFuture},
};

/// Sessions in Postgres 12 or later.
///
/// Each operation is one statement, by the server's clock, and takes two seconds at most. Connections are
/// pooled, made when needed, and made anew when they are lost; by TLS where the URL's `sslmode` or
/// the server asks for it, with the certificates that this machine trusts. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct PostgresStore(Pool<Manager>);

type Manager = PostgresConnectionManager<MakeRustlsConnect>;

/// How long an operation may take, from the wait for a connection on.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the tables may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Most connections.
const CONNECTIONS: u32 = 8;

/// Several servers may start at once: one after the other makes what is missing.
const TABLES: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(7305792613150091);
    CREATE TABLE IF NOT EXISTS sso_records (
        key         bytea PRIMARY KEY,
        kind        smallint NOT NULL,
        user_id     text NOT NULL,
        provider    text NOT NULL,
        subject     text NOT NULL,
        session_id  text,
        created_at  bigint NOT NULL,
        seen_at     bigint NOT NULL,
        expires_at  bigint NOT NULL,
        version     bigint NOT NULL,
        data        bytea NOT NULL,
        lease       bytea,
        lease_until bigint
    );
    CREATE INDEX IF NOT EXISTS sso_records_by_user ON sso_records (user_id, kind, created_at);
    CREATE INDEX IF NOT EXISTS sso_records_by_subject ON sso_records (provider, subject);
    CREATE INDEX IF NOT EXISTS sso_records_by_session ON sso_records (provider, session_id);
    CREATE INDEX IF NOT EXISTS sso_records_by_expiry ON sso_records (expires_at);
    CREATE TABLE IF NOT EXISTS sso_ended (
        id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at    bigint NOT NULL,
        kind  text NOT NULL,
        a     text NOT NULL,
        b     text NOT NULL
    );
    CREATE INDEX IF NOT EXISTS sso_ended_by_time ON sso_ended (at);
    CREATE TABLE IF NOT EXISTS sso_disabled (user_id text PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS sso_claims (key bytea PRIMARY KEY, expires_at bigint NOT NULL);
    CREATE INDEX IF NOT EXISTS sso_claims_by_expiry ON sso_claims (expires_at);
    COMMIT;";

/// The time in milliseconds since 1970.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

macro_rules! columns {
    () => {
        "key, kind, user_id, provider, subject, session_id, created_at, seen_at, expires_at, version, data"
    };
}

/// Tells that something has ended, as `$1`, `$2`, `$3`, and forgets what was told more than an hour ago.
macro_rules! tell {
    () => {
        concat!(
            "old AS (DELETE FROM sso_ended WHERE id IN (SELECT id FROM sso_ended WHERE at < ",
            now!(),
            " - 3600000 LIMIT 100 FOR UPDATE SKIP LOCKED)),
             told AS (INSERT INTO sso_ended (at, kind, a, b) VALUES (",
            now!(),
            ", $1, $2, $3))"
        )
    };
}

const INSERT: &str = concat!(
    "WITH old AS (DELETE FROM sso_records WHERE key IN (SELECT key FROM sso_records WHERE expires_at <= ",
    now!(),
    " LIMIT 100 FOR UPDATE SKIP LOCKED))
     INSERT INTO sso_records (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
);

const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM sso_records WHERE key = $1 AND expires_at > ",
    now!()
);

const TOUCH: &str = concat!(
    "UPDATE sso_records SET seen_at = greatest(seen_at, $2), expires_at = greatest(expires_at, $3)
     WHERE key = $1 AND expires_at > ",
    now!(),
    " RETURNING 1"
);

const REPLACE: &str = concat!(
    "UPDATE sso_records SET data = $3, version = $4, lease = NULL, lease_until = NULL
     WHERE key = $1 AND version = $2 AND expires_at > ",
    now!(),
    " RETURNING 1"
);

const LEASE: &str = concat!(
    "UPDATE sso_records SET lease = $2, lease_until = ",
    now!(),
    " + $3 WHERE key = $1 AND expires_at > ",
    now!(),
    " AND (lease IS NULL OR lease = $2 OR lease_until <= ",
    now!(),
    ") RETURNING 1"
);

const RELEASE: &str =
    "UPDATE sso_records SET lease = NULL, lease_until = NULL WHERE key = $1 AND lease = $2";

const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM sso_records WHERE user_id = $1 AND kind = $2 AND expires_at > ",
    now!(),
    " ORDER BY created_at DESC, key DESC LIMIT 1000"
);

macro_rules! end {
    ($condition:literal) => {
        concat!(
            "WITH ",
            tell!(),
            ", gone AS (DELETE FROM sso_records WHERE ",
            $condition,
            " RETURNING 1) SELECT count(*) FROM gone"
        )
    };
}

const END_KEY: &str = end!("key = $4");

const END_USER: &str = end!("user_id = $2");

const END_NOTHING: &str = end!("false");

const END_ISSUER_SESSION: &str = end!("provider = $2 AND session_id = $3 AND kind = 1");

const END_SUBJECT: &str = end!("provider = $2 AND subject = $3 AND kind = 1");

const ENDED: &str = concat!(
    "SELECT id, kind, a, b FROM sso_ended WHERE at >= ",
    now!(),
    " - $1"
);

const DISABLE: &str = concat!(
    "WITH ",
    tell!(),
    ", gone AS (DELETE FROM sso_records WHERE user_id = $2)
     INSERT INTO sso_disabled (user_id) VALUES ($2) ON CONFLICT DO NOTHING"
);

const ENABLE: &str = concat!(
    "WITH ",
    tell!(),
    " DELETE FROM sso_disabled WHERE user_id = $2"
);

const CLAIM: &str = concat!(
    "WITH old AS (DELETE FROM sso_claims WHERE key IN (SELECT key FROM sso_claims WHERE key <> $1 AND expires_at <= ",
    now!(),
    " LIMIT 100 FOR UPDATE SKIP LOCKED))
     INSERT INTO sso_claims (key, expires_at) VALUES ($1, $2)
     ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at WHERE sso_claims.expires_at <= ",
    now!(),
    " RETURNING 1"
);

// === impl PostgresStore ===

impl PostgresStore {
    /// Connects to the database that the URL names (`postgres://…`), and makes the tables that are
    /// missing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the URL is none, the server does not answer within ten seconds, or the tables
    /// cannot be made.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        // The URL may hold a password, so what is wrong with it is not said in its own words.
        let config: Config = url
            .parse()
            .map_err(|_| StoreError::new("the URL is not Postgres's"))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(StoreError::new)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let manager = PostgresConnectionManager::new(config, MakeRustlsConnect::new(tls));
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .connection_timeout(TIMEOUT)
            // A question before each question: what is lost shows itself.
            .test_on_check_out(false)
            .build_unchecked(manager);
        let made = async {
            let connection = pool.get().await.map_err(StoreError::new)?;
            connection
                .batch_execute(TABLES)
                .await
                .map_err(StoreError::new)
        };
        match timeout(CONNECT, made).await {
            Ok(made) => made?,
            Err(elapsed) => return Err(StoreError::new(elapsed)),
        }
        Ok(Self(pool))
    }

    /// One statement in one round trip, without a name of its own at the server, so that poolers between can be
    /// used.
    async fn query(
        self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let asked = async {
            let connection = self.0.get().await.map_err(StoreError::new)?;
            let values: Vec<(&(dyn ToSql + Sync), Type)> = values
                .iter()
                .map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()))
                .collect();
            let rows = connection.query_typed(statement, &values).await;
            rows.map_err(StoreError::new)
        };
        match timeout(TIMEOUT, asked).await {
            Ok(rows) => rows,
            Err(elapsed) => Err(StoreError::new(elapsed)),
        }
    }

    fn run<T: Send + 'static>(
        &self,
        statement: &'static str,
        values: Vec<Value>,
        read: impl FnOnce(Vec<Row>) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<T> {
        let store = self.clone();
        StoreFuture::boxed(async move { read(store.query(statement, values).await?) })
    }

    /// Whether the statement found its row.
    fn hits(&self, statement: &'static str, values: Vec<Value>) -> StoreFuture<bool> {
        self.run(statement, values, |rows| Ok(!rows.is_empty()))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("connections", &self.0.state().connections)
            .finish_non_exhaustive()
    }
}

impl Store for PostgresStore {
    fn insert(&self, record: Record) -> StoreFuture<()> {
        let values = vec![
            bytes(record.key.as_bytes()),
            (Box::new(number_of(record.kind)), Type::INT2),
            text(&record.user_id),
            text(&record.provider),
            text(&record.subject),
            (
                Box::new(record.session_id.as_deref().map(str::to_owned)),
                Type::TEXT,
            ),
            number(to_millis(record.created_at)),
            number(to_millis(record.seen_at)),
            number(to_millis(record.expires_at)),
            number(record.version.cast_signed()),
            bytes(&record.data),
        ];
        self.run(INSERT, values, |_| Ok(()))
    }

    fn find(&self, key: Key) -> StoreFuture<Option<Record>> {
        self.run(FIND, vec![bytes(key.as_bytes())], |rows| {
            rows.first().map(record).transpose()
        })
    }

    fn touch(&self, key: Key, seen_at: SystemTime, expires_at: SystemTime) -> StoreFuture<bool> {
        let times = [seen_at, expires_at].map(|at| number(to_millis(at)));
        let values = [bytes(key.as_bytes())].into_iter().chain(times).collect();
        self.hits(TOUCH, values)
    }

    fn replace(&self, key: Key, version: u64, data: Bytes) -> StoreFuture<bool> {
        let values = vec![
            bytes(key.as_bytes()),
            number(version.cast_signed()),
            bytes(&data),
            number(version.wrapping_add(1).cast_signed()),
        ];
        self.hits(REPLACE, values)
    }

    fn lease(&self, key: Key, holder: u128, length: Duration) -> StoreFuture<bool> {
        let values = vec![
            bytes(key.as_bytes()),
            bytes(&holder.to_be_bytes()),
            number(span(length)),
        ];
        self.hits(LEASE, values)
    }

    fn release(&self, key: Key, holder: u128) -> StoreFuture<()> {
        let values = vec![bytes(key.as_bytes()), bytes(&holder.to_be_bytes())];
        self.run(RELEASE, values, |_| Ok(()))
    }

    fn list(&self, user_id: &str, kind: Kind) -> StoreFuture<Vec<Record>> {
        let values = vec![text(user_id), (Box::new(number_of(kind)), Type::INT2)];
        self.run(LIST, values, |rows| rows.iter().map(record).collect())
    }

    fn end(&self, what: End) -> StoreFuture<u64> {
        let mut values = told(&what);
        let statement = match &what {
            End::Key(key) => {
                values.push(bytes(key.as_bytes()));
                END_KEY
            }
            End::User(_) | End::Disabled(_) => END_USER,
            End::Enabled(_) => END_NOTHING,
            End::IssuerSession { .. } => END_ISSUER_SESSION,
            End::Subject { .. } => END_SUBJECT,
        };
        self.run(statement, values, |rows| {
            let gone: i64 = match rows.first() {
                Some(row) => row.try_get(0).map_err(StoreError::new)?,
                None => 0,
            };
            Ok(u64::try_from(gone).unwrap_or_default())
        })
    }

    fn ended(&self, within: Duration) -> StoreFuture<Vec<Ended>> {
        self.run(ENDED, vec![number(span(within))], |rows| {
            let ended = rows.iter().map(|row| {
                let id: i64 = row.try_get(0)?;
                let (kind, a, b): (&str, &str, &str) =
                    (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
                Ok(End::from_parts(kind, a.into(), b.into()).map(|what| Ended {
                    id: id.cast_unsigned(),
                    what,
                }))
            });
            let ended: Result<Vec<_>, tokio_postgres::Error> =
                ended.filter_map(Result::transpose).collect();
            ended.map_err(StoreError::new)
        })
    }

    fn set_disabled(&self, user_id: &str, disabled: bool) -> StoreFuture<()> {
        let (statement, what) = match disabled {
            true => (DISABLE, End::Disabled(user_id.into())),
            false => (ENABLE, End::Enabled(user_id.into())),
        };
        self.run(statement, told(&what), |_| Ok(()))
    }

    fn disabled(&self) -> StoreFuture<Vec<Arc<str>>> {
        self.run("SELECT user_id FROM sso_disabled", Vec::new(), |rows| {
            let users = rows
                .iter()
                .map(|row| row.try_get::<_, &str>(0).map(Arc::from));
            users.collect::<Result<_, _>>().map_err(StoreError::new)
        })
    }

    fn claim(&self, what: Key, until: SystemTime) -> StoreFuture<bool> {
        self.hits(
            CLAIM,
            vec![bytes(what.as_bytes()), number(to_millis(until))],
        )
    }
}

/// A value of a statement.
type Value = (Box<dyn ToSql + Send + Sync>, Type);

fn text(value: &str) -> Value {
    (Box::new(value.to_owned()), Type::TEXT)
}

fn number(value: i64) -> Value {
    (Box::new(value), Type::INT8)
}

fn bytes(value: &[u8]) -> Value {
    (Box::new(value.to_vec()), Type::BYTEA)
}

fn told(what: &End) -> Vec<Value> {
    let (kind, a, b) = what.to_parts();
    vec![text(kind), text(&a), text(b)]
}

fn record(row: &Row) -> Result<Record, StoreError> {
    let read = || -> Result<Option<Record>, tokio_postgres::Error> {
        let key: &[u8] = row.try_get(0)?;
        let kind: i16 = row.try_get(1)?;
        let session_id: Option<&str> = row.try_get(5)?;
        let version: i64 = row.try_get(9)?;
        let data: &[u8] = row.try_get(10)?;
        let record = key.try_into().ok().map(|key| {
            Ok(Record {
                key: Key::from_bytes(key),
                kind: if kind == number_of(Kind::Session) {
                    Kind::Session
                } else {
                    Kind::AccessToken
                },
                user_id: row.try_get::<_, &str>(2)?.into(),
                provider: row.try_get::<_, &str>(3)?.into(),
                subject: row.try_get::<_, &str>(4)?.into(),
                session_id: session_id.map(Arc::from),
                created_at: from_millis(row.try_get(6)?),
                seen_at: from_millis(row.try_get(7)?),
                expires_at: from_millis(row.try_get(8)?),
                version: version.cast_unsigned(),
                data: Bytes::copy_from_slice(data),
            })
        });
        record.transpose()
    };
    match read() {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err(StoreError::new("a record cannot be read")),
        Err(error) => Err(StoreError::new(error)),
    }
}

const fn number_of(kind: Kind) -> i16 {
    match kind {
        Kind::Session => 1,
        Kind::AccessToken => 2,
    }
}

fn span(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX >> 8)
}

fn to_millis(at: SystemTime) -> i64 {
    span(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn from_millis(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
