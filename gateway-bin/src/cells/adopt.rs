//! What a gateway that starts does with the processes that it finds.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tower_workspace::DirectoryName;
use tracing::{info, warn};

use super::cell::Cell;
use super::directory::CellDir;
use super::members::{Mark, below, kill, variable};
use super::openclaw::PASSWORD;
use super::process::{ProcessId, boot};
use super::record::Record;
use super::registry::Shared;
use super::start::Process;

/// How often what is nobody's is ended, until none of it is left.
const ATTEMPTS: usize = 100;

/// Pause after each.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

// === impl Shared ===

impl Shared {
    /// The cells that run, as their records say. Everything else of cells is ended.
    pub(super) async fn adopt(self: &Arc<Self>) -> io::Result<Vec<(Arc<Cell>, Process)>> {
        let shared = Arc::clone(self);
        let found = spawn_blocking(move || shared.find_running()).await;
        let found = found.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))?;
        let mut adopted = Vec::new();
        for (record, id, dir) in found {
            let user_id: Arc<str> = record.user_id.as_str().into();
            let cell = self.cell(&mut self.cells(), &user_id);
            let port = self.ports.reserve(record.port);
            let is_one_too_many = adopted.len() >= self.settings.max as usize;
            let (Ok(cell), Some(port), false) = (cell, port, is_one_too_many) else {
                continue;
            };
            info!(cell = &*cell.name, pid = id.pid, "cell that runs was found");
            cell.set_starting();
            adopted.push((cell, Process::found(record, id, port, &dir)));
        }
        self.end_what_is_nobodys(&adopted).await?;
        Ok(adopted)
    }

    /// The records of processes that are what they say.
    fn find_running(&self) -> io::Result<Vec<(Record, ProcessId, CellDir)>> {
        let boot = boot()?;
        let mut found = Vec::new();
        for dir in self.dir.all()? {
            let Some(record) = Record::find(&dir) else {
                continue;
            };
            let Some(id) = record.process else { continue };
            let is_of_user = DirectoryName::for_user(&record.user_id)
                .is_ok_and(|name| self.dir.of(&name).path() == dir.path());
            let as_now = match (self.settings.os_users, record.os_user) {
                (Some(os_users), Some(os_user)) => os_users.contains(os_user),
                (None, None) => true,
                _ => false,
            };
            let password = variable(id.pid, PASSWORD);
            let is_it = record.boot == boot
                && id.is_alive()
                && password.is_some_and(|password| *password == *record.password);
            if is_of_user && as_now && is_it {
                found.push((record, id, dir));
            }
        }
        Ok(found)
    }

    async fn end_what_is_nobodys(&self, adopted: &[(Arc<Cell>, Process)]) -> io::Result<()> {
        let marks: Vec<Mark> = adopted
            .iter()
            .map(|(cell, process)| process.mark(&cell.dir))
            .collect();
        let (dir, os_users) = (self.dir.path().to_owned(), self.os_users_in_use()?);
        for _ in 0..ATTEMPTS {
            let (marks, dir, os_users) = (marks.clone(), dir.clone(), os_users.clone());
            let left = spawn_blocking(move || {
                let mut members = BTreeSet::new();
                for mark in &marks {
                    members.extend(mark.members()?);
                }
                let all = below(&dir, &os_users)?;
                let nobodys: BTreeSet<_> = all.difference(&members).copied().collect();
                for process in &nobodys {
                    warn!(
                        pid = process.pid,
                        "a process of a cell is nobody's and is ended"
                    );
                }
                kill(nobodys)
            });
            match left
                .await
                .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))?
            {
                0 => return Ok(()),
                _ => sleep(PAUSE).await,
            }
        }
        Err(io::Error::other("some that are nobody's do not end"))
    }

    /// The users of the system that cells of ours have run as. Another gateway may have others of the same range.
    fn os_users_in_use(&self) -> io::Result<BTreeSet<u32>> {
        let Some(os_users) = self.settings.os_users else {
            return Ok(BTreeSet::new());
        };
        let states = self.dir.all()?.into_iter().map(|dir| dir.state());
        let owners = states.filter_map(|state| Some(fs::symlink_metadata(state).ok()?.uid()));
        Ok(owners.filter(|owner| os_users.contains(*owner)).collect())
    }
}
