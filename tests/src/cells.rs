//! Cells that a gateway starts: what it is configured with, and what is seen of them past it.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::Value;

use crate::{
    error::{Error, Result},
    install::Install,
    secret,
};

/// The variable by which OpenClaw, and what it starts, knows where it keeps everything.
const STATE_DIR: &str = "OPENCLAW_STATE_DIR";

/// The cells of a gateway that keeps everything in one directory. Dropping it kills them.
#[derive(Debug)]
pub struct Cells {
    dir: PathBuf,
    command: PathBuf,
    /// The first of the users that cells run as, where they have some of their own.
    first_user: Option<u32>,
}

/// A process of a cell.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CellProcess {
    /// Its number.
    pub pid: i32,
    /// The user of the system that it runs as.
    pub os_user: u32,
    /// The state directory that it was started with.
    pub state: PathBuf,
}

/// How many users the cells of one test may have.
const USERS: u32 = 100;

impl Cells {
    /// For a gateway in `dir`, which everybody may pass through from then on. As root, each cell is a user of its own and
    /// gets at OpenClaw by links in `dir`; else all are this user.
    ///
    /// # Errors
    ///
    /// [`Error::File`], and no random numbers.
    pub fn new(install: &Install, dir: &Path) -> Result<Self> {
        let file = |source| Error::File {
            path: dir.to_owned(),
            source,
        };
        let open = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        open(dir, 0o711).map_err(file)?;
        let dir = dir.canonicalize().map_err(file)?;
        let (mut node, mut modules) = (install.node.clone(), install.modules.clone());
        let mut first_user = None;
        if getuid().is_root() {
            // Packages find one another by this name.
            (node, modules) = (dir.join("node"), dir.join("node_modules"));
            link(&install.node, &node).map_err(file)?;
            link_all(&install.modules, &modules).map_err(file)?;
            // Another test's gateway would take these for its own.
            let random = u32::from_str_radix(&secret::hex_key()?[..4], 16).unwrap_or_default();
            first_user = Some(1_000_000_000 + random * USERS);
        }
        let command = dir.join("openclaw-command");
        let script = format!(
            "#!/bin/sh\nexec '{}' '{}' \"$@\"\n",
            node.display(),
            modules.join("openclaw/openclaw.mjs").display()
        );
        fs::write(&command, script).map_err(file)?;
        open(&command, 0o755).map_err(file)?;
        Ok(Self {
            dir: dir.join("gateway.cells"),
            command,
            first_user,
        })
    }

    /// `[cells]` of the configuration, with these lines in it.
    #[must_use]
    pub fn section(&self, lines: &str) -> String {
        let users = match self.first_user {
            Some(first) => format!("os_users = \"{first}-{}\"", first + USERS - 1),
            None => "trust_each_other = true".to_owned(),
        };
        let command = self.command.display();
        format!("\n[cells]\ncommand = \"{command}\"\n{users}\n{lines}\n")
    }

    /// Whether each cell is a user of the system of its own.
    #[must_use]
    pub fn have_users(&self) -> bool {
        self.first_user.is_some()
    }

    /// Where somebody's cell keeps everything.
    #[must_use]
    pub fn state(&self, user_id: &str) -> PathBuf {
        self.dir.join(user_id).join("state")
    }

    /// What the gateway keeps of somebody's cell; null: nothing.
    #[must_use]
    pub fn record(&self, user_id: &str) -> Value {
        let text = fs::read(self.dir.join(user_id).join("cell.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// The process of somebody's cell, as the gateway has written it down.
    #[must_use]
    pub fn pid(&self, user_id: &str) -> Option<i32> {
        let pid = self.record(user_id)["process"]["pid"].as_i64()?;
        i32::try_from(pid).ok()
    }

    /// All processes that there are of the cells, whoever knows of them.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn processes(&self) -> Result<Vec<CellProcess>> {
        let file = |source| Error::File {
            path: PathBuf::from("/proc"),
            source,
        };
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc").map_err(file)? {
            let name = entry.map_err(file)?.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            processes.extend(pid.and_then(|pid| self.process(pid)));
        }
        Ok(processes)
    }

    fn process(&self, pid: i32) -> Option<CellProcess> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = |name: &str| {
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next().map(str::to_owned)
        };
        let os_user = line("Uid:")?.parse().ok()?;
        if line("State:")? == "Z" {
            return None;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let state = environment.split('\0').find_map(|variable| {
            let value = variable.strip_prefix(STATE_DIR)?.strip_prefix('=')?;
            Some(PathBuf::from(value))
        });
        let state = state.unwrap_or_default();
        let is_user = self
            .first_user
            .is_some_and(|first| (first..first + USERS).contains(&os_user));
        (is_user || state.starts_with(&self.dir)).then_some(CellProcess {
            pid,
            os_user,
            state,
        })
    }

    /// What is there of whom, by state directory: how many processes.
    ///
    /// # Errors
    ///
    /// As [`processes`](Self::processes).
    pub fn by_state(&self) -> Result<BTreeMap<PathBuf, usize>> {
        let mut by_state = BTreeMap::new();
        for process in self.processes()? {
            *by_state.entry(process.state).or_default() += 1;
        }
        Ok(by_state)
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        for process in self.processes().unwrap_or_default() {
            if let Some(pid) = Pid::from_raw(process.pid) {
                // One that has ended meanwhile needs no more.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// The same file at another place.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        // On another file system.
        Err(_) => fs::copy(from, to).map(drop),
        linked => linked,
    }
}

fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            link_all(&from, &to)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        } else {
            link(&from, &to)?;
        }
    }
    Ok(())
}
