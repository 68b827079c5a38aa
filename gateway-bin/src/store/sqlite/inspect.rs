use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;

/// See [`inspect_file`](crate::store::inspect_file).
pub(in crate::store) fn inspect(path: &Path) -> Result<Option<u32>, StoreError> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        Path::new(&name).exists()
    };
    // Files in WAL mode get their journals anew when they are opened, also to be read, unless it is said that nobody writes
    // to them; and that holds true of one without journals.
    let mode = match (beside("-wal"), beside("-shm")) {
        (false, _) => "immutable=1",
        (true, true) => "mode=ro",
        (true, false) => return Ok(None),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(path, mode), flags)?;
    let is_made =
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'gateway_schema'";
    let is_made: u32 = connection.query_row(is_made, [], |row| row.get(0))?;
    if is_made == 0 {
        return Ok(Some(0));
    }
    let latest = "SELECT coalesce(max(version), 0) FROM gateway_schema";
    Ok(Some(connection.query_row(latest, [], |row| row.get(0))?))
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
        let latest = Some(super::super::LATEST);
        assert_eq!(inspect(&path).unwrap(), latest);
        drop(store);
        assert_eq!(inspect(&path).unwrap(), latest);
        let other = dir.path().join("other.db");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE t (a)")
            .unwrap();
        assert_eq!(inspect(&other).unwrap(), Some(0));
        assert!(inspect(&dir.path().join("none.db")).is_err());
        assert!(!dir.path().join("none.db").exists());
    }
}
