//! What is known of a cell's process, on disk: a gateway that comes later finds it by that.

use std::fs;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::directory::CellDir;
use super::process::ProcessId;

const FILE: &str = "cell.json";

/// A cell's process, or the one that is about to be started. Only we can read or change it, or a cell could say that it is
/// any process.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Record {
    /// Whose cell it is.
    pub(super) user_id: String,
    /// The operating-system user that it runs as, where that is not ours.
    pub(super) os_user: Option<u32>,
    /// Where it listens.
    pub(super) port: u16,
    /// What it asks of us.
    pub(super) password: String,
    /// The run of the system in which it was started.
    pub(super) boot: String,
    /// The process, once it is there.
    pub(super) process: Option<ProcessId>,
}

// === impl Record ===

impl Record {
    /// The record in a cell's directory; `None` if there is none that can be read.
    pub(super) fn find(dir: &CellDir) -> Option<Self> {
        let text = fs::read(dir.path().join(FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps it, so that it is there even if the power is cut now.
    pub(super) fn put(&self, dir: &CellDir) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".cell.json.")
            .tempfile_in(dir.path())?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(dir.path().join(FILE))?;
        fs::File::open(dir.path())?.sync_all()
    }

    /// The same without the process and what it asked of us, once that has ended.
    pub(super) fn put_ended(mut self, dir: &CellDir) -> io::Result<()> {
        self.process = None;
        self.password.clear();
        self.put(dir)
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("user_id", &self.user_id)
            .field("os_user", &self.os_user)
            .field("port", &self.port)
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tower_workspace::DirectoryName;

    use super::super::directory::CellsDir;
    use super::*;

    #[test]
    fn a_record_is_found_again_and_one_that_is_damaged_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cells = CellsDir::open(&dir.path().join("cells")).unwrap();
        let cell = cells.of(&DirectoryName::for_user("alice").unwrap());
        cell.make(None).unwrap();
        assert_eq!(Record::find(&cell), None);
        let record = Record {
            user_id: "alice".to_owned(),
            os_user: Some(700_000),
            port: 20_000,
            password: "canary".to_owned(),
            boot: "boot".to_owned(),
            process: ProcessId::of(1),
        };
        record.put(&cell).unwrap();
        assert_eq!(Record::find(&cell).as_ref(), Some(&record));
        assert!(!format!("{record:?}").contains("canary"));
        let path = cell.path().join(FILE);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        record.put_ended(&cell).unwrap();
        assert_eq!(Record::find(&cell).unwrap().process, None);
        fs::write(&path, "{\"user_id\": \"ali").unwrap();
        assert_eq!(Record::find(&cell), None);
    }
}
