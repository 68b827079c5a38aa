use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use super::{
    Kind,
    record::{Key, Record},
    store::{End, Ended, Store, StoreError, StoreFuture},
};
use crate::jwt::{Clock as _, SystemClock};

/// Sessions in an SQLite file, which may hold other tables too.
///
/// Statements run on the blocking threads of the Tokio runtime, one after the other, in write-ahead
/// mode; another writer of the file is waited for two seconds. What is answered is on disk. Cheap to
/// clone; clones share the connection.
#[derive(Clone)]
pub struct SqliteStore(Arc<Mutex<Connection>>);

/// How long another writer is waited for.
const BUSY: Duration = Duration::from_secs(2);

/// How long it is kept what was ended, in milliseconds.
const KEPT: i64 = 3_600_000;

/// Most records that are listed.
const LISTED: i64 = 1_000;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS sso_records (
        key         BLOB NOT NULL PRIMARY KEY,
        kind        INTEGER NOT NULL,
        user_id     TEXT NOT NULL,
        provider    TEXT NOT NULL,
        subject     TEXT NOT NULL,
        session_id  TEXT,
        created_at  INTEGER NOT NULL,
        seen_at     INTEGER NOT NULL,
        expires_at  INTEGER NOT NULL,
        version     INTEGER NOT NULL,
        data        BLOB NOT NULL,
        lease       BLOB,
        lease_until INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS sso_records_by_user ON sso_records (user_id, kind, created_at);
    CREATE INDEX IF NOT EXISTS sso_records_by_subject ON sso_records (provider, subject);
    CREATE INDEX IF NOT EXISTS sso_records_by_session ON sso_records (provider, session_id);
    CREATE INDEX IF NOT EXISTS sso_records_by_expiry ON sso_records (expires_at);
    CREATE TABLE IF NOT EXISTS sso_ended (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        at       INTEGER NOT NULL,
        kind     TEXT NOT NULL,
        a        TEXT NOT NULL,
        b        TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS sso_ended_by_time ON sso_ended (at);
    CREATE TABLE IF NOT EXISTS sso_disabled (user_id TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sso_claims (
        key         BLOB NOT NULL PRIMARY KEY,
        expires_at  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS sso_claims_by_expiry ON sso_claims (expires_at);";

// === impl SqliteStore ===

impl SqliteStore {
    /// Opens the file, and makes it and the tables if they are not there.
    ///
    /// Blocks for as long as the disk does.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file cannot be opened, or the tables cannot be made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(TABLES)?;
            Ok(Self(Arc::new(Mutex::new(connection))))
        };
        open().map_err(|error: rusqlite::Error| StoreError::new(error))
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let connection = Arc::clone(&self.0);
        StoreFuture::boxed(async move {
            let done = tokio::task::spawn_blocking(move || {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                work(&mut connection, to_millis(SystemClock.now()))
            });
            match done.await {
                Ok(done) => done.map_err(StoreError::new),
                Err(error) => Err(StoreError::new(error)),
            }
        })
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl Store for SqliteStore {
    fn insert(&self, record: Record) -> StoreFuture<()> {
        self.run(move |connection, now| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM sso_records WHERE expires_at <= ?1", [now])?;
            transaction.execute(
                "INSERT INTO sso_records (key, kind, user_id, provider, subject, session_id, created_at, seen_at,
                     expires_at, version, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                params![
                    record.key.as_bytes(),
                    number_of(record.kind),
                    &*record.user_id,
                    &*record.provider,
                    &*record.subject,
                    record.session_id.as_deref(),
                    to_millis(record.created_at),
                    to_millis(record.seen_at),
                    to_millis(record.expires_at),
                    record.version.cast_signed(),
                    &*record.data,
                ],
            )?;
            transaction.commit()
        })
    }

    fn find(&self, key: Key) -> StoreFuture<Option<Record>> {
        self.run(move |connection, now| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM sso_records WHERE key = ?1 AND expires_at > ?2"
                ))?
                .query_row(params![key.as_bytes(), now], record)
                .optional()
        })
    }

    fn touch(&self, key: Key, seen_at: SystemTime, expires_at: SystemTime) -> StoreFuture<bool> {
        self.run(move |connection, now| {
            let changed = connection.execute(
                "UPDATE sso_records SET seen_at = max(seen_at, ?2), expires_at = max(expires_at, ?3)
                 WHERE key = ?1 AND expires_at > ?4",
                params![key.as_bytes(), to_millis(seen_at), to_millis(expires_at), now],
            )?;
            Ok(changed > 0)
        })
    }

    fn replace(&self, key: Key, version: u64, data: Bytes) -> StoreFuture<bool> {
        self.run(move |connection, now| {
            let changed = connection.execute(
                "UPDATE sso_records SET data = ?3, version = ?4, lease = NULL, lease_until = NULL
                 WHERE key = ?1 AND version = ?2 AND expires_at > ?5",
                params![
                    key.as_bytes(),
                    version.cast_signed(),
                    &*data,
                    version.wrapping_add(1).cast_signed(),
                    now
                ],
            )?;
            Ok(changed > 0)
        })
    }

    fn lease(&self, key: Key, holder: u128, length: Duration) -> StoreFuture<bool> {
        self.run(move |connection, now| {
            let until = now.saturating_add(i64::try_from(length.as_millis()).unwrap_or(i64::MAX));
            let changed = connection.execute(
                "UPDATE sso_records SET lease = ?2, lease_until = ?3
                 WHERE key = ?1 AND expires_at > ?4 AND (lease IS NULL OR lease = ?2 OR lease_until <= ?4)",
                params![key.as_bytes(), &holder.to_be_bytes()[..], until, now],
            )?;
            Ok(changed > 0)
        })
    }

    fn release(&self, key: Key, holder: u128) -> StoreFuture<()> {
        self.run(move |connection, _| {
            let released = connection.execute(
                "UPDATE sso_records SET lease = NULL, lease_until = NULL WHERE key = ?1 AND lease = ?2",
                params![key.as_bytes(), &holder.to_be_bytes()[..]],
            );
            released.map(drop)
        })
    }

    fn list(&self, user_id: &str, kind: Kind) -> StoreFuture<Vec<Record>> {
        let user_id = user_id.to_owned();
        self.run(move |connection, now| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM sso_records WHERE user_id = ?1 AND kind = ?2 AND expires_at > ?3
                 ORDER BY created_at DESC, key DESC LIMIT ?4"
            ))?;
            let rows =
                statement.query_map(params![user_id, number_of(kind), now, LISTED], record)?;
            rows.collect()
        })
    }

    fn end(&self, what: End) -> StoreFuture<u64> {
        self.run(move |connection, now| {
            let transaction = connection.transaction()?;
            let ended = end(&transaction, &what, now)?;
            transaction.commit()?;
            Ok(ended)
        })
    }

    fn ended(&self, within: Duration) -> StoreFuture<Vec<Ended>> {
        self.run(move |connection, now| {
            let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
            let mut statement =
                connection.prepare_cached("SELECT id, kind, a, b FROM sso_ended WHERE at >= ?1")?;
            let rows = statement.query_map([now.saturating_sub(within)], |row| {
                let id: i64 = row.get(0)?;
                let (kind, a, b): (String, Arc<str>, Arc<str>) =
                    (row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(End::from_parts(&kind, a, b).map(|what| Ended {
                    id: id.cast_unsigned(),
                    what,
                }))
            })?;
            rows.filter_map(Result::transpose).collect()
        })
    }

    fn set_disabled(&self, user_id: &str, disabled: bool) -> StoreFuture<()> {
        let user_id: Arc<str> = user_id.into();
        self.run(move |connection, now| {
            let transaction = connection.transaction()?;
            if disabled {
                transaction.execute(
                    "INSERT OR IGNORE INTO sso_disabled (user_id) VALUES (?1)",
                    [&*user_id],
                )?;
                end(&transaction, &End::Disabled(user_id), now)?;
            } else {
                transaction.execute("DELETE FROM sso_disabled WHERE user_id = ?1", [&*user_id])?;
                end(&transaction, &End::Enabled(user_id), now)?;
            }
            transaction.commit()
        })
    }

    fn disabled(&self) -> StoreFuture<Vec<Arc<str>>> {
        self.run(|connection, _| {
            let mut statement = connection.prepare_cached("SELECT user_id FROM sso_disabled")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })
    }

    fn claim(&self, what: Key, until: SystemTime) -> StoreFuture<bool> {
        self.run(move |connection, now| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM sso_claims WHERE expires_at <= ?1", [now])?;
            let first = transaction.execute(
                "INSERT OR IGNORE INTO sso_claims (key, expires_at) VALUES (?1, ?2)",
                params![what.as_bytes(), to_millis(until)],
            )?;
            transaction.commit()?;
            Ok(first > 0)
        })
    }
}

const COLUMNS: &str = "key, kind, user_id, provider, subject, session_id, created_at, seen_at, expires_at, version, data";

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let kind: i64 = row.get(1)?;
    let version: i64 = row.get(9)?;
    let data: Vec<u8> = row.get(10)?;
    Ok(Record {
        key: Key::from_bytes(row.get(0)?),
        kind: if kind == number_of(Kind::Session) {
            Kind::Session
        } else {
            Kind::AccessToken
        },
        user_id: row.get(2)?,
        provider: row.get(3)?,
        subject: row.get(4)?,
        session_id: row.get(5)?,
        created_at: from_millis(row.get(6)?),
        seen_at: from_millis(row.get(7)?),
        expires_at: from_millis(row.get(8)?),
        version: version.cast_unsigned(),
        data: data.into(),
    })
}

fn end(connection: &Connection, what: &End, now: i64) -> rusqlite::Result<u64> {
    let session = number_of(Kind::Session);
    let delete = |condition: &str, values: &[&dyn ToSql]| {
        connection.execute(
            &format!("DELETE FROM sso_records WHERE {condition}"),
            values,
        )
    };
    let ended = match what {
        End::Key(key) => delete("key = ?1", &[key.as_bytes()])?,
        End::User(user_id) | End::Disabled(user_id) => delete("user_id = ?1", &[user_id])?,
        End::Enabled(_) => 0,
        End::IssuerSession {
            provider,
            session_id,
        } => delete(
            "provider = ?1 AND session_id = ?2 AND kind = ?3",
            &[provider, session_id, &session],
        )?,
        End::Subject { provider, subject } => delete(
            "provider = ?1 AND subject = ?2 AND kind = ?3",
            &[provider, subject, &session],
        )?,
    };
    let (kind, a, b) = what.to_parts();
    connection.execute(
        "DELETE FROM sso_ended WHERE at < ?1",
        [now.saturating_sub(KEPT)],
    )?;
    connection.execute(
        "INSERT INTO sso_ended (at, kind, a, b) VALUES (?1, ?2, ?3, ?4)",
        params![now, kind, a, b],
    )?;
    Ok(u64::try_from(ended).unwrap_or(u64::MAX))
}

const fn number_of(kind: Kind) -> i64 {
    match kind {
        Kind::Session => 1,
        Kind::AccessToken => 2,
    }
}

fn to_millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn from_millis(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
