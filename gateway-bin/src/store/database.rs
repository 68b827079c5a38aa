use std::fs::{File, Permissions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use super::schema;

/// How long a statement waits for another writer of the file.
const BUSY: Duration = Duration::from_secs(5);

/// The store; clones share one connection.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) connection: Arc<Mutex<Connection>>,
    // Held for the life of the process: one `serve` for each file.
    _lock: Arc<File>,
}

/// Why the store did not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another gateway has the file.
    #[error("{} is in use by another gateway; one `serve` for each file", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or locked.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The tables are of a newer version of the gateway.
    #[error(
        "the store has tables of version {version}, which this gateway does not know; use the newer gateway"
    )]
    Newer {
        /// Version of the tables.
        version: u32,
    },
    /// The gateway stops.
    #[error("the store is closed")]
    Stopped,
    /// SQLite failed.
    #[error("store failed")]
    Sqlite(#[from] rusqlite::Error),
}

// === impl Store ===

impl Store {
    /// Opens the file, made and readable by us only if it is new, and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source: std::io::Error| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = private_file(Path::new(&lock_path)).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => StoreError::InUse {
                path: path.to_owned(),
            },
            errno => failed(errno.into()),
        })?;
        private_file(path).map_err(failed)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        schema::migrate(&mut connection)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            _lock: Arc::new(lock),
        })
    }

    /// Runs `work` on the connection, away from the runtime's own threads.
    ///
    /// # Errors
    ///
    /// What `work` answers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop `work`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// The secret of that name, made by `make` and kept the first time.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn key(&self, name: &str, make: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = connection
            .query_row(
                "SELECT secret FROM gateway_keys WHERE name = ?1",
                [name],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(secret) = kept {
            return Ok(secret);
        }
        let secret = make();
        connection.execute(
            "INSERT INTO gateway_keys (name, secret) VALUES (?1, ?2)",
            params![name, secret],
        )?;
        Ok(secret)
    }

    /// Whether the file answers.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.run(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?))
            .await
    }
}

/// Opens a file for us alone, made if it is not there.
fn private_file(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // One that was there before, under another umask.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

pub(super) fn millis(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

pub(super) fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        (dir, store)
    }

    #[test]
    fn one_gateway_has_the_file() {
        let (dir, _store) = open();
        assert!(matches!(
            Store::open(&dir.path().join("gateway.db")),
            Err(StoreError::InUse { .. })
        ));
    }

    #[test]
    fn a_key_is_made_once() {
        let (dir, store) = open();
        assert_eq!(store.key("device", || vec![1]).unwrap(), [1]);
        drop(store);
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        assert_eq!(
            store.key("device", || vec![2]).unwrap(),
            [1],
            "a restart keeps it"
        );
    }
}
