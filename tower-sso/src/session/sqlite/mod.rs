mod worker;

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, ToSql, params};

use self::worker::{TIMEOUT, Worker};
use super::{
    Kind,
    record::{Key, Record},
    store::{End, Ended, Lease, Store, StoreError, StoreFuture},
};

/// Sessions in an SQLite file, which may hold other tables too.
///
/// In write-ahead mode, by two threads that end with the last clone: one reads, one writes, so that
/// reading never waits for another writer of the file. Writes that wait together are brought to the disk
/// together. What is answered is on disk.
///
/// An operation takes two seconds at most. If the file cannot be written for so long, as another writer
/// has it, it is refused and is not done later. At most 1,024 reads and 1,024 writes wait; more are refused at once.
/// Cheap to clone; clones share the threads.
///
/// # Cancel safety
///
/// An operation begins when its future is polled first; from then on it is done even if the future is
/// dropped, and all of it or nothing. An error after two seconds may be of one that was under way
/// already: it may have taken effect.
#[derive(Clone)]
pub struct SqliteStore(Arc<Workers>);

struct Workers {
    reader: Worker,
    writer: Worker,
}

/// How long it is kept what was ended, in milliseconds.
const KEPT: i64 = 3_600_000;

/// Most records that are listed.
const LISTED: i64 = 1_000;

/// More than there are statements, so that each is compiled once.
const STATEMENTS: usize = 64;

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
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(TIMEOUT)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            Ok(connection)
        };
        let writing = open().map_err(StoreError::new)?;
        writing.execute_batch(TABLES).map_err(StoreError::new)?;
        let reading = open().map_err(StoreError::new)?;
        Ok(Self(Arc::new(Workers {
            reader: Worker::reader(reading)?,
            writer: Worker::writer(writing)?,
        })))
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let workers = Arc::clone(&self.0);
        StoreFuture::boxed(async move { workers.reader.ask(work).await })
    }

    /// What fails changes nothing.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, i64) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let workers = Arc::clone(&self.0);
        StoreFuture::boxed(async move { workers.writer.ask(work).await })
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl Store for SqliteStore {
    fn insert(&self, record: Record) -> StoreFuture<()> {
        self.write(move |connection, now| {
            execute(connection, FORGET_RECORDS, [now])?;
            execute(
                connection,
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
            )
            .map(drop)
        })
    }

    fn find(&self, key: Key) -> StoreFuture<Option<Record>> {
        self.read(move |connection, now| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM sso_records WHERE key = ?1 AND expires_at > ?2"
                ))?
                .query_row(params![key.as_bytes(), now], record)
                .optional()
        })
    }

    fn touch(&self, key: Key, seen_at: SystemTime, expires_at: SystemTime) -> StoreFuture<bool> {
        self.write(move |connection, now| {
            let changed = execute(
                connection,
                "UPDATE sso_records SET seen_at = max(seen_at, ?2), expires_at = max(expires_at, ?3)
                 WHERE key = ?1 AND expires_at > ?4",
                params![key.as_bytes(), to_millis(seen_at), to_millis(expires_at), now],
            )?;
            Ok(changed > 0)
        })
    }

    fn replace(&self, key: Key, version: u64, data: Bytes) -> StoreFuture<bool> {
        self.write(move |connection, now| {
            let changed = execute(
                connection,
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

    fn lease(&self, key: Key, holder: u128, length: Duration) -> StoreFuture<Lease> {
        self.write(move |connection, now| {
            let own = holder.to_be_bytes();
            let other: Option<Option<bool>> = connection
                .prepare_cached("SELECT lease <> ?2 FROM sso_records WHERE key = ?1")?
                .query_row(params![key.as_bytes(), &own[..]], |row| row.get(0))
                .optional()?;
            let until = now.saturating_add(i64::try_from(length.as_millis()).unwrap_or(i64::MAX));
            let changed = execute(
                connection,
                "UPDATE sso_records SET lease = ?2, lease_until = ?3
                 WHERE key = ?1 AND expires_at > ?4 AND (lease IS NULL OR lease = ?2 OR lease_until <= ?4)",
                params![key.as_bytes(), &own[..], until, now],
            )?;
            Ok(match (changed, other.flatten()) {
                (0, _) => Lease::Refused,
                (_, Some(true)) => Lease::TakenOver,
                _ => Lease::Granted,
            })
        })
    }

    fn release(&self, key: Key, holder: u128) -> StoreFuture<()> {
        self.write(move |connection, _| {
            let released = execute(
                connection,
                "UPDATE sso_records SET lease = NULL, lease_until = NULL WHERE key = ?1 AND lease = ?2",
                params![key.as_bytes(), &holder.to_be_bytes()[..]],
            );
            released.map(drop)
        })
    }

    fn list(&self, user_id: &str, kind: Kind) -> StoreFuture<Vec<Record>> {
        let user_id = user_id.to_owned();
        self.read(move |connection, now| {
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
        self.write(move |connection, now| end(connection, &what, now))
    }

    fn ended(&self, within: Duration) -> StoreFuture<Vec<Ended>> {
        self.read(move |connection, now| {
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
        self.write(move |connection, now| {
            let (statement, what) = match disabled {
                true => (
                    "INSERT OR IGNORE INTO sso_disabled (user_id) VALUES (?1)",
                    End::Disabled(user_id),
                ),
                false => (
                    "DELETE FROM sso_disabled WHERE user_id = ?1",
                    End::Enabled(user_id),
                ),
            };
            execute(connection, statement, [what.to_parts().1])?;
            end(connection, &what, now).map(drop)
        })
    }

    fn disabled(&self) -> StoreFuture<Vec<Arc<str>>> {
        self.read(|connection, _| {
            let mut statement = connection.prepare_cached("SELECT user_id FROM sso_disabled")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })
    }

    fn claim(&self, what: Key, until: SystemTime) -> StoreFuture<bool> {
        self.write(move |connection, now| {
            execute(connection, FORGET_CLAIMS, [now])?;
            let first = execute(
                connection,
                "INSERT INTO sso_claims (key, expires_at) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at
                     WHERE sso_claims.expires_at <= ?3",
                params![what.as_bytes(), to_millis(until), now],
            )?;
            Ok(first > 0)
        })
    }
}

/// Some of those that have expired, so that no operation takes long.
const FORGET_RECORDS: &str = "DELETE FROM sso_records WHERE key IN
    (SELECT key FROM sso_records WHERE expires_at <= ?1 LIMIT 100)";

const FORGET_CLAIMS: &str = "DELETE FROM sso_claims WHERE key IN
    (SELECT key FROM sso_claims WHERE expires_at <= ?1 LIMIT 100)";

const FORGET_ENDED: &str = "DELETE FROM sso_ended WHERE id IN
    (SELECT id FROM sso_ended WHERE at < ?1 LIMIT 100)";

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

/// How many rows it changed.
fn execute(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> rusqlite::Result<usize> {
    connection.prepare_cached(statement)?.execute(values)
}

fn end(connection: &Connection, what: &End, now: i64) -> rusqlite::Result<u64> {
    let session = number_of(Kind::Session);
    let delete = |condition: &str, values: &[&dyn ToSql]| {
        let statement = format!("DELETE FROM sso_records WHERE {condition}");
        execute(connection, &statement, values)
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
    execute(connection, FORGET_ENDED, [now.saturating_sub(KEPT)])?;
    execute(
        connection,
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
