use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::LATEST;
use crate::store::StoreError;

/// See [`inspect_file`](crate::store::inspect_file).
pub(in crate::store) fn inspect(path: &Path, is_in_use: bool) -> Result<Option<u32>, StoreError> {
    if is_in_use {
        return Ok(Some(version(path, "mode=ro")?));
    }
    // Files in WAL mode get their journals anew, or what is in one comes into the file, when they are opened, also to be
    // read: unless it is said that nobody writes to them. Then a journal is not read at all.
    let found = version(path, "immutable=1");
    let mut journal = path.as_os_str().to_owned();
    journal.push("-wal");
    if !Path::new(&journal).exists() {
        return Ok(Some(found?));
    }
    match found {
        // In the journal there can be later ones only.
        Ok(version) => Ok(Some(version).filter(|version| *version >= LATEST)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn version(path: &Path, mode: &str) -> Result<u32, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(path, mode), flags)?;
    let is_made =
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'gateway_schema'";
    let is_made: u32 = connection.query_row(is_made, [], |row| row.get(0))?;
    if is_made == 0 {
        return Ok(0);
    }
    let latest = "SELECT coalesce(max(version), 0) FROM gateway_schema";
    connection.query_row(latest, [], |row| row.get(0))
}

/// A file as SQLite's URIs name it: what means something there is percent-encoded (sqlite.org, "URI Filenames").
fn uri(path: &Path, mode: &str) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut uri = "file:".to_owned();
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{uri}?{mode}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn the_version_is_read_while_a_gateway_has_the_file_and_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a ?#%.db");
        let store = Store::open(&path).unwrap();
        let latest = Some(LATEST);
        assert_eq!(inspect(&path, true).unwrap(), latest);
        assert_eq!(inspect(&path, false).unwrap(), None, "it is in the journal");
        drop(store);
        assert_eq!(inspect(&path, false).unwrap(), latest);
        let other = dir.path().join("other.db");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE t (a)")
            .unwrap();
        assert_eq!(inspect(&other, false).unwrap(), Some(0));
        assert!(inspect(&dir.path().join("none.db"), false).is_err());
        assert!(!dir.path().join("none.db").exists());
    }
}
