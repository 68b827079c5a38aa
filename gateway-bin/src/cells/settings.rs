//! What cells are started with, and whether this system lets us.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::getuid;
use serde_json::Value;

use super::CellsError;
use crate::config::{Config, ConfigError, OsUsers};

/// How cells are started, and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The program.
    pub command: PathBuf,
    /// The directory of all cells.
    pub dir: PathBuf,
    /// After how long without use one is stopped.
    pub idle_after: Duration,
    /// How many may run.
    pub max: u32,
    /// As whom each runs; `None`: as we do.
    pub os_users: Option<OsUsers>,
    /// Where people's workspaces are.
    pub workspaces: PathBuf,
    /// What their configuration says beside what must be.
    pub template: Value,
}

/// What of root's rights starting and ending processes of others takes, by the numbers of `linux/capability.h`.
const RIGHTS: [(u32, &str); 6] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (19, "CAP_SYS_PTRACE"),
];

// === impl Settings ===

impl Settings {
    /// What a configuration says; `None`: there are no cells.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: `cells.config` cannot be read.
    pub fn new(config: &Config) -> Result<Option<Self>, ConfigError> {
        let (Some(cells), Some(dir)) = (&config.cells, config.cells_dir()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            command: cells.command.clone(),
            dir,
            idle_after: cells.idle_after,
            max: cells.max,
            os_users: cells.os_users,
            workspaces: config.workspace.root.clone(),
            template: cells.template()?,
        }))
    }

    /// Refuses what could only fail when somebody comes.
    pub(crate) fn check(&self) -> Result<(), CellsError> {
        if self.os_users.is_some() {
            check_rights()?;
        }
        let command = find_command(&self.command)
            .ok_or_else(|| CellsError::NoCommand(self.command.clone()))?;
        match self.os_users {
            Some(_) => {
                open_to_others("cells.command", &command, true)?;
                open_to_others("workspace.root", &self.workspaces.join("any"), false)
            }
            None => Ok(()),
        }
    }
}

/// Whether we have what it takes to run processes as other users, and to end them.
fn check_rights() -> Result<(), CellsError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_rights(&status, getuid().is_root());
    match missing.is_empty() {
        true => Ok(()),
        false => Err(CellsError::Unprivileged { missing }),
    }
}

fn missing_rights(status: &str, is_root: bool) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let rights = rights.filter(|_| is_root).unwrap_or(0);
    let missing = RIGHTS
        .into_iter()
        .filter(|(number, _)| rights & (1 << number) == 0);
    let missing: Vec<_> = missing.map(|(_, name)| name).collect();
    missing.join(", ")
}

/// The file that `command` names, as a shell finds it.
fn find_command(command: &Path) -> Option<PathBuf> {
    if command.components().count() > 1 {
        return command.canonicalize().ok();
    }
    let path = env::var_os("PATH")?;
    let mut files = env::split_paths(&path).map(|dir| dir.join(command));
    files.find_map(|file| file.is_file().then(|| file.canonicalize().ok())?)
}

/// Refuses a path that others cannot get to, or cannot execute at its end.
pub(super) fn open_to_others(
    key: &'static str,
    path: &Path,
    is_program: bool,
) -> Result<(), CellsError> {
    const EXECUTE: u32 = 0o001;
    const READ: u32 = 0o004;

    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let path = path.as_path();
    let lacks = |path: &Path, bits: u32| -> io::Result<bool> {
        match path.metadata() {
            Ok(is) => Ok(is.mode() & bits != bits),
            // It will be made as it must be.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    };
    let refuse = |path: &Path, right| {
        let path = path.to_owned();
        Err(CellsError::OutOfReach { key, path, right })
    };
    if is_program && lacks(path, EXECUTE | READ).unwrap_or(true) {
        return refuse(path, "rx");
    }
    for dir in path.ancestors().skip(1) {
        if lacks(dir, EXECUTE).unwrap_or(true) {
            return refuse(dir, "x");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_of_roots_rights_is_missing_is_named() {
        let whole = "Name:\tgateway\nCapEff:\t000001ffffffffff\n";
        assert_eq!(missing_rights(whole, true), "");
        assert!(missing_rights(whole, false).starts_with("CAP_CHOWN, "));
        let most = "CapEff:\t000001ffffffff5f\n";
        assert_eq!(missing_rights(most, true), "CAP_KILL, CAP_SETUID");
        assert!(missing_rights("", true).ends_with("CAP_SYS_PTRACE"));
    }

    #[test]
    fn a_program_must_be_within_reach() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().canonicalize().unwrap();
        let program = inner.join("openclaw");
        fs::write(&program, "").unwrap();
        let mode =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let refused = |path: &Path| {
            let error = open_to_others("cells.command", path, true);
            error.err().map(|error| error.to_string())
        };
        mode(&program, 0o755);
        mode(&inner, 0o700);
        let closed = refused(&program).unwrap();
        assert!(
            closed.contains(&format!("chmod o+x {}", inner.display())),
            "{closed}"
        );
        mode(&inner, 0o711);
        mode(&program, 0o750);
        let closed = refused(&program).unwrap();
        assert!(
            closed.contains(&format!("chmod o+rx {}", program.display())),
            "{closed}"
        );
        assert_eq!(find_command(&program).as_ref(), Some(&program));
        assert_eq!(find_command(Path::new("no-such-program-anywhere")), None);
        assert!(find_command(Path::new("sh")).is_some());
    }
}
