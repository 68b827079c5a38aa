//! Which processes are a cell's: OpenClaw starts others, some in process groups and sessions of their own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::process::ProcessId;

/// The variable by which OpenClaw knows where it keeps everything.
pub(super) const STATE_DIR: &str = "OPENCLAW_STATE_DIR";

/// How often what is left is ended: a process may start another while it is looked at.
const ATTEMPTS: usize = 100;

/// Pause after each.
const PAUSE: Duration = Duration::from_millis(50);

/// By what the processes of a cell are known.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// Its state directory.
    pub(super) state: PathBuf,
    /// The operating-system user that is this cell's alone.
    pub(super) os_user: Option<u32>,
    /// The process that leads its process group, where it is known.
    pub(super) leader: Option<ProcessId>,
}

/// A process, as it is when it is looked at.
struct Seen {
    process: ProcessId,
    os_user: u32,
}

// === impl Mark ===

impl Mark {
    /// The processes that there are of it.
    pub(super) fn members(&self) -> io::Result<BTreeSet<ProcessId>> {
        let group = self.leader.and_then(|leader| {
            // One whose group is another's is not the leader that was started.
            leader.group().filter(|group| *group == leader.pid)
        });
        let seen = all()?.into_iter().filter(|seen| match self.os_user {
            Some(os_user) => seen.os_user == os_user,
            None => {
                seen.os_user == geteuid().as_raw()
                    && (seen.process.group().is_some() && seen.process.group() == group
                        || seen.state_dir().is_some_and(|dir| dir == self.state))
            }
        });
        Ok(seen.map(|seen| seen.process).collect())
    }

    /// Kills all of it, and waits until nothing is left.
    pub(super) async fn end(self) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            let mark = self.clone();
            let left = spawn_blocking(move || mark.members().and_then(kill)).await;
            match left.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))? {
                0 => return Ok(()),
                _ => sleep(PAUSE).await,
            }
        }
        Err(io::Error::other("some of its processes do not end"))
    }
}

/// Sends all of them a signal that none withstands. How many there were.
pub(super) fn kill(processes: BTreeSet<ProcessId>) -> io::Result<usize> {
    let count = processes.len();
    for process in processes {
        process.signal(Signal::KILL)?;
    }
    Ok(count)
}

/// What there is of cells below `dir`. Those that run as one of `os_users` are the cells' alone.
pub(super) fn below(dir: &Path, os_users: &BTreeSet<u32>) -> io::Result<BTreeSet<ProcessId>> {
    let own = geteuid().as_raw();
    let seen = all()?.into_iter().filter(|seen| {
        os_users.contains(&seen.os_user)
            || seen.os_user == own && seen.state_dir().is_some_and(|state| state.starts_with(dir))
    });
    Ok(seen.map(|seen| seen.process).collect())
}

/// Every process but our own.
fn all() -> io::Result<Vec<Seen>> {
    let own = i32::try_from(std::process::id()).ok();
    let mut seen = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|pid| Some(*pid) != own) else {
            continue;
        };
        // One that has ended meanwhile is none.
        if let (Some(process), Some(os_user)) = (ProcessId::of(pid), os_user(pid)) {
            seen.push(Seen { process, os_user });
        }
    }
    Ok(seen)
}

/// The user that a process runs as.
fn os_user(pid: i32) -> Option<u32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What a process was started with in a variable of that name.
pub(super) fn variable(pid: i32, name: &str) -> Option<OsString> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    variables.find_map(|variable| {
        let value = variable.strip_prefix(name.as_bytes())?;
        let value = value.strip_prefix(b"=")?;
        Some(OsString::from_vec(value.to_vec()))
    })
}

// === impl Seen ===

impl Seen {
    fn state_dir(&self) -> Option<PathBuf> {
        variable(self.process.pid, STATE_DIR)
            .filter(|dir| dir.as_bytes().first() == Some(&b'/'))
            .map(PathBuf::from)
    }
}
