use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::file::BUSY;
use crate::store::StoreError;
use crate::store::found::{Found, LEDGER, SESSIONS, STATE};

/// What is in a file. Nothing is written, not even beside it.
pub(in crate::store) fn find(path: &Path) -> Result<Found, StoreError> {
    let [log, index] = ["-wal", "-shm"].map(|end| beside(path, end));
    let is_quiet = fs::metadata(&log).map_or(0, |file| file.len()) == 0;
    let had_index = index.exists();
    let connection = open(path, is_quiet, had_index)?;
    let found = Found {
        state: version(&connection, STATE)?,
        ledger: version(&connection, LEDGER)?,
        sessions: has(&connection, SESSIONS)?,
        counters: false,
    };
    drop(connection);
    // SQLite makes it to read the log of a process that was killed, and leaves it.
    if !had_index && !is_quiet {
        let _ = fs::remove_file(&index);
    }
    Ok(found)
}

/// To read a file with nothing in its log by what is in the file alone makes neither a log nor an index, and an index that is
/// there need not be written to.
fn open(path: &Path, is_quiet: bool, has_index: bool) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let mode = match (is_quiet, has_index) {
        (true, _) => "immutable=1",
        (false, true) => "mode=ro&readonly_shm=1",
        (false, false) => "mode=ro",
    };
    let uri = format!("file:{}?{mode}", escaped(path));
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn version(connection: &Connection, table: &str) -> Result<u32, StoreError> {
    if !has(connection, table)? {
        return Ok(0);
    }
    let latest = format!("SELECT coalesce(max(version), 0) FROM {table}");
    Ok(connection.query_row(&latest, [], |row| row.get(0))?)
}

fn has(connection: &Connection, table: &str) -> Result<bool, StoreError> {
    let find = "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(connection.query_row(find, [table], |row| row.get(0))?)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A path as it stands in a URI (SQLite's documentation, "URI Filenames").
fn escaped(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes().iter();
    bytes
        .map(|byte| match byte {
            b'/' | b'.' | b'-' | b'_' => char::from(*byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::{MIGRATIONS, Store, find_in_file};

    fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let files = paths.filter(|path| path.is_file());
        files
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect()
    }

    #[test]
    fn to_look_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("odd %41?name.db");
        assert_eq!(find_in_file(&path).unwrap(), Found::default());
        assert_eq!(files(dir.path()).len(), 0, "there is none");

        let store = Store::open(&path).unwrap();
        let known = u32::try_from(MIGRATIONS.len()).unwrap();
        let of_store = |found: Found| (found.state, found.ledger, found.sessions);
        let here = files(dir.path());
        assert_eq!(of_store(find_in_file(&path).unwrap()), (known, 0, false));
        // In one process connections share the index, which is written to where the gateway's own has it.
        assert!(
            files(dir.path()).keys().eq(here.keys()),
            "while a gateway has it"
        );

        // As a copy without the index is, and as a gateway leaves it that was killed.
        let copy = dir.path().join("copy");
        fs::create_dir(&copy).unwrap();
        let copied = copy.join("gateway.db");
        fs::copy(&path, &copied).unwrap();
        fs::copy(beside(&path, "-wal"), beside(&copied, "-wal")).unwrap();
        let before = files(&copy);
        assert_eq!(of_store(find_in_file(&copied).unwrap()), (known, 0, false));
        assert!(files(&copy) == before, "what is in the log counts");
        fs::copy(beside(&path, "-shm"), beside(&copied, "-shm")).unwrap();
        let before = files(&copy);
        assert_eq!(of_store(find_in_file(&copied).unwrap()), (known, 0, false));
        assert!(files(&copy) == before, "the index, too, is as it was");

        drop(store);
        let here = files(dir.path());
        assert_eq!(of_store(find_in_file(&path).unwrap()), (known, 0, false));
        assert!(files(dir.path()) == here, "after it was closed");
    }
}
