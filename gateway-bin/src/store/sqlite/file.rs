use std::fs::{File, Permissions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};

use super::schema;
use crate::store::StoreError;

/// How long a statement waits for another writer of the file.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// The file; clones share one connection.
#[derive(Clone, Debug)]
pub(in crate::store) struct SqliteFile {
    connection: Arc<Mutex<Connection>>,
    _lock: Arc<FileLock>,
}

/// That a file is this gateway's alone, while it is held: one `serve` for each file.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

// === impl SqliteFile ===

impl SqliteFile {
    pub(in crate::store) fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = FileLock::take(path)?;
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

    /// Runs `work` on the connection, away from the runtime's own threads. Dropping the future does not stop it.
    pub(in crate::store) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await.unwrap_or(Err(StoreError::Stopped))
    }
}

// === impl FileLock ===

impl FileLock {
    /// Whether a gateway has the file at `path`. No file is made.
    #[must_use]
    pub fn is_taken(path: &Path) -> bool {
        let lock = File::open(lock_path(path));
        lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// Takes it for the file at `path`, which is made, and readable by us only, if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if another gateway has it, [`StoreError::Open`] if there can be no such file.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let failed = |source: std::io::Error| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let lock = private_file(&lock_path(path)).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => StoreError::InUse {
                path: path.to_owned(),
            },
            errno => failed(errno.into()),
        })?;
        private_file(path).map_err(failed)?;
        Ok(Self { _file: lock })
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    lock_path.into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gateway_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.db");
        assert!(!FileLock::is_taken(&path));
        assert!(!path.exists() && !lock_path(&path).exists());
        let file = SqliteFile::open(&path).unwrap();
        assert!(FileLock::is_taken(&path));
        assert!(matches!(
            SqliteFile::open(&path),
            Err(StoreError::InUse { .. })
        ));
        drop(file);
        assert!(!FileLock::is_taken(&path));
    }
}
