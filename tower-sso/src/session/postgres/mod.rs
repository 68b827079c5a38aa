mod connection;
mod statements;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bb8::{Pool, RunError};
use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{
    Config, Row,
    types::{ToSql, Type},
};

use self::{
    connection::{LastError, Manager, NoConnection},
    statements::{
        CLAIM, DISABLE, DISABLED, ENABLE, END_ISSUER_SESSION, END_KEY, END_NOTHING, END_SUBJECT,
        END_USER, ENDED, FIND, INSERT, LEASE, LIST, RELEASE, REPEATABLE, REPLACE, TABLES, TOUCH,
    },
};
use super::{
    Kind,
    record::{Key, Record},
    store::{End, Ended, Lease, Store, StoreError, StoreFuture},
};

/// Sessions in Postgres 12 or later.
///
/// Each operation is one statement, by the server's clock, and takes two seconds at most. Connections are
/// pooled and made when needed. One that is lost, or whose server did not answer in time, is made anew. Where
/// it was lost while a statement may have run, the statement is run again if that comes to the same: all but
/// [`insert`](Store::insert), [`replace`](Store::replace), [`claim`](Store::claim) and
/// [`end`](Store::end), which fail then and may have taken effect. Cheap to clone; clones share the pool.
///
/// # TLS
///
/// | `sslmode` of the URL | |
/// | --- | --- |
/// | `disable` | no TLS |
/// | `prefer`, the default | TLS if the server has it |
/// | `require` | TLS |
///
/// Where there is TLS, the server's certificate is verified, other than by libpq: for the name in the URL, and
/// against the certificates that this machine trusts (`SSL_CERT_FILE` names others). One that
/// does not verify is an error and never a reason to go on without TLS.
///
/// # Cancel safety
///
/// What a connection was found for is done even if the future is dropped.
#[derive(Clone)]
pub struct PostgresStore {
    pool: Pool<Manager>,
    last_error: LastError,
}

/// How long an operation may take, from the wait for a connection on.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the tables may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Most connections.
const CONNECTIONS: u32 = 8;

// === impl PostgresStore ===

impl PostgresStore {
    /// Connects to the database that the URL names (`postgres://…`), and makes the tables that are
    /// missing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the URL is none, the server does not answer within ten seconds or lets nobody in, or the
    /// tables cannot be made. Its source says why; no password is in it.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        // The URL may hold a password, so what is wrong with it is not said in its own words.
        let config: Config = url.parse().map_err(|_| {
            StoreError::new(
                "the URL is not Postgres's, or has a parameter that is not known (sslmode is disable, prefer or require)",
            )
        })?;
        let manager = Manager::new(config)?;
        // Not by the pool, which would not say what is wrong.
        let made = async {
            let connection = manager.open().await.map_err(StoreError::new)?;
            let made = connection.client.batch_execute(TABLES).await;
            made.map_err(StoreError::new)
        };
        match timeout(CONNECT, made).await {
            Ok(made) => made?,
            Err(elapsed) => return Err(StoreError::new(elapsed)),
        }
        let last_error = manager.last_error().clone();
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .connection_timeout(TIMEOUT)
            // A question before each question: what is lost shows itself.
            .test_on_check_out(false)
            .build_unchecked(manager);
        Ok(Self { pool, last_error })
    }

    /// One statement in one round trip, without a name of its own at the server, so that poolers between can be
    /// used.
    async fn query(
        self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let deadline = Instant::now() + TIMEOUT;
        let values = Arc::new(values);
        loop {
            let mut connection = match timeout_at(deadline, self.pool.get_owned()).await {
                Ok(Ok(connection)) => connection,
                Err(_) | Ok(Err(RunError::TimedOut)) => {
                    return Err(StoreError::new(NoConnection(self.last_error.get())));
                }
                Ok(Err(RunError::User(error))) => return Err(StoreError::new(error)),
            };
            // Such as those from before the server was started anew. It is not given back.
            if connection.client.is_closed() {
                continue;
            }
            let values = Arc::clone(&values);
            // Not in the way of whoever has the connection next if this future is dropped.
            let asked = tokio::spawn(async move {
                let values = values
                    .iter()
                    .map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()))
                    .collect::<Vec<_>>();
                let asked = connection.client.query_typed(statement, &values);
                let answer = timeout_at(deadline, asked).await;
                let is_lost = match &answer {
                    Ok(Ok(_)) => false,
                    Ok(Err(error)) => connection::is_lost(error),
                    Err(_) => true,
                };
                if is_lost {
                    connection.give_up();
                }
                (answer, is_lost)
            });
            return match asked.await {
                Ok((Ok(Ok(rows)), _)) => Ok(rows),
                Ok((Ok(Err(_)), true)) if REPEATABLE.contains(&statement) => continue,
                Ok((Ok(Err(error)), _)) => Err(StoreError::new(error)),
                Ok((Err(elapsed), _)) => Err(StoreError::new(elapsed)),
                Err(error) => Err(StoreError::new(error)),
            };
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
            .field("connections", &self.pool.state().connections)
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

    fn lease(&self, key: Key, holder: u128, length: Duration) -> StoreFuture<Lease> {
        let values = vec![
            bytes(key.as_bytes()),
            bytes(&holder.to_be_bytes()),
            number(span(length)),
        ];
        self.run(LEASE, values, |rows| {
            let Some(row) = rows.first() else {
                return Ok(Lease::Refused);
            };
            let was_anothers: Option<bool> = row.try_get(0).map_err(StoreError::new)?;
            Ok(match was_anothers {
                Some(true) => Lease::TakenOver,
                _ => Lease::Granted,
            })
        })
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
        self.run(DISABLED, Vec::new(), |rows| {
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
