//! `gateway backup`: a copy of the SQLite file, also while a gateway works with it.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rusqlite::backup::{Backup as Copying, StepResult};
use rusqlite::{Connection, OpenFlags};
use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

use super::{MISUSE, fail};
use crate::config::{self, ConfigError};

/// How long the file may be locked by somebody who opens or closes it.
const BUSY: Duration = Duration::from_secs(5);

/// How often a copy is begun that somebody was in the way of.
const ATTEMPTS: usize = 5;

/// Copies the gateway's SQLite file.
#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    /// The gateway's configuration file, which says where the SQLite file is.
    #[arg(long, value_name = "FILE", default_value = "gateway.toml")]
    config: PathBuf,
    /// Where the copy goes; there must be nothing yet.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Why there is no copy.
#[derive(Debug, Error)]
enum BackupError {
    #[error("{0}; name the file by --config")]
    Config(#[from] ConfigError),
    #[error("{} is there already; name another file by --to, or remove it", .0.display())]
    Exists(PathBuf),
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        path: PathBuf,
        source: Box<dyn Error>,
    },
    #[error(
        "the copy is not good: {0}; look at the disk of the one that is copied, and at the one that it is copied to"
    )]
    Damaged(String),
}

// === impl Backup ===

impl Backup {
    /// Copies it, and says what came of it.
    pub(super) fn run(self) -> ExitCode {
        match self.copy() {
            Ok(length) => {
                println!("{}: {length} bytes, checked", self.to.display());
                ExitCode::SUCCESS
            }
            Err(error @ (BackupError::Config(_) | BackupError::Exists(_))) => {
                fail(MISUSE, &error.to_string())
            }
            Err(error) => fail(1, &error.to_string()),
        }
    }

    fn copy(&self) -> Result<u64, BackupError> {
        let store = config::read(&self.config)?.store.path;
        let store = store.unwrap_or_else(|| PathBuf::from("gateway.db"));
        copy(&store, &self.to)
    }
}

/// Copies an SQLite file as it is at one moment, whoever writes to it meanwhile, and answers the copy's length. What is at
/// `to` in the end is whole, and on the disk.
fn copy(from: &Path, to: &Path) -> Result<u64, BackupError> {
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let read = |source| BackupError::Read {
        path: from.to_owned(),
        source,
    };
    let write = |source: Box<dyn Error>| BackupError::Write {
        path: to.to_owned(),
        source,
    };
    let dir = match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // Not for writing: but only so does SQLite put right what a gateway left that was killed, and leave nothing itself.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags).map_err(read)?;
    source.busy_timeout(BUSY).map_err(read)?;
    // Readable by us only, as the file itself.
    let draft = Builder::new().prefix(".gateway-backup").tempfile_in(dir);
    let draft = draft.map_err(|error| write(error.into()))?;
    {
        let mut target = Connection::open(draft.path()).map_err(|error| write(error.into()))?;
        copy_pages(&source, &mut target).map_err(|error| write(error.into()))?;
    }
    check(draft.path())?;
    keep(draft, dir, to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(to.to_owned()),
        _ => write(error.into()),
    })
}

/// All pages in one step, which sees the file as of one moment: between two steps somebody else may write, and everything
/// would begin anew.
fn copy_pages(source: &Connection, target: &mut Connection) -> Result<(), rusqlite::Error> {
    let copying = Copying::new(source, target)?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match copying.step(-1)? {
            StepResult::Done => return Ok(()),
            _ if attempts == ATTEMPTS => {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(busy, None));
            }
            // It has waited for whoever was in the way.
            _ => {}
        }
    }
}

/// Whether all of it can be read.
fn check(copy: &Path) -> Result<(), BackupError> {
    let read = |source| BackupError::Read {
        path: copy.to_owned(),
        source,
    };
    let copy =
        Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(read)?;
    let found: String = copy
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(read)?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(BackupError::Damaged(found)),
    }
}

/// Puts the copy where it belongs, once it is on the disk.
fn keep(draft: NamedTempFile, dir: &Path, to: &Path) -> io::Result<u64> {
    draft.as_file().sync_all()?;
    let file = draft.persist_noclobber(to).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()?;
    Ok(file.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::store::Store;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_copy_is_whole_also_of_a_file_that_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("gateway.db"), dir.path().join("copies"));
        std::fs::create_dir(&to).unwrap();
        let store = Store::open(&from).unwrap();
        store.key("device", || vec![7]).await.unwrap();
        // Not in the file itself yet, but in its journal.
        assert!(names(dir.path()).contains(&"gateway.db-wal".to_owned()));
        let first = to.join("first.db");
        assert!(copy(&from, &first).unwrap() > 0);
        store.key("later", || vec![8]).await.unwrap();
        drop(store);
        let second = to.join("second.db");
        copy(&from, &second).unwrap();
        assert_eq!(
            names(&to),
            ["first.db", "second.db"],
            "and nothing else is left"
        );
        let mode = first.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let restored = Store::open(&first).unwrap();
        assert_eq!(restored.key("device", || vec![0]).await.unwrap(), [7]);
        assert_eq!(
            restored.key("later", || vec![0]).await.unwrap(),
            [0],
            "it came later"
        );
    }

    #[test]
    fn what_is_there_is_left_alone_and_what_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("gateway.db"), dir.path().join("copy.db"));
        std::fs::write(&to, "mine").unwrap();
        let refused = copy(&from, &to).unwrap_err().to_string();
        assert!(refused.contains("is there already"), "{refused}");
        assert_eq!(std::fs::read(&to).unwrap(), b"mine");
        std::fs::remove_file(&to).unwrap();
        let missing = copy(&from, &to).unwrap_err().to_string();
        assert!(missing.contains("gateway.db cannot be read"), "{missing}");
        assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
        std::fs::write(&from, [7; 8_192]).unwrap();
        assert!(copy(&from, &to).is_err());
        assert_eq!(names(dir.path()), ["gateway.db"]);
        drop(Store::open(&dir.path().join("good.db")).unwrap());
        let nowhere = copy(
            &dir.path().join("good.db"),
            &dir.path().join("none/copy.db"),
        );
        assert!(
            nowhere
                .unwrap_err()
                .to_string()
                .contains("cannot be written")
        );
    }
}
