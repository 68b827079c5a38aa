//! Where cells keep what they have: `<dir>/<name>/state` is the cell's, everything around it is ours.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, Mode, OFlags, Uid, fchown, flock, open};
use rustix::process::geteuid;
use tower_workspace::DirectoryName;

/// How long a log may be when a cell is started; a longer one becomes the one before, which is thrown away.
const LOG: u64 = 10 * 1024 * 1024;

/// How much of a log is looked at for what was said last.
const TAIL: u64 = 8 * 1024;

/// The directory of all cells, which is this gateway's alone while it is held.
#[derive(Debug)]
pub(super) struct CellsDir {
    path: PathBuf,
    _lock: File,
}

/// The directory of one cell.
#[derive(Clone, Debug)]
pub(super) struct CellDir {
    path: PathBuf,
}

// === impl CellsDir ===

impl CellsDir {
    /// Opens it, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let made = DirBuilder::new().mode(0o711).create(path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let path = path.canonicalize()?;
        let is = path.metadata()?;
        if is.uid() != geteuid().as_raw() || is.mode() & 0o022 != 0 {
            return Err(io::Error::other(
                "it must belong to the gateway's user, and nobody else may write to it",
            ));
        }
        // Cells must pass through it, and need not see which others there are.
        fs::set_permissions(&path, Permissions::from_mode(0o711))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => io::Error::other("another gateway has it"),
            errno => errno.into(),
        })?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn of(&self, name: &DirectoryName) -> CellDir {
        CellDir {
            path: self.path.join(name.as_str()),
        }
    }

    /// Those that there are.
    pub(super) fn all(&self) -> io::Result<Vec<CellDir>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                all.push(CellDir { path: entry.path() });
            }
        }
        Ok(all)
    }
}

// === impl CellDir ===

impl CellDir {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What OpenClaw knows as its state directory.
    pub(super) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    pub(super) fn config(&self) -> PathBuf {
        self.state().join("openclaw.json")
    }

    /// What the process prints.
    pub(super) fn output(&self) -> PathBuf {
        self.path.join("output.log")
    }

    /// What OpenClaw writes itself.
    pub(super) fn log(&self) -> PathBuf {
        self.state().join("openclaw.log")
    }

    /// Makes what is missing, for a cell that runs as that user of the system or as ours.
    pub(super) fn make(&self, os_user: Option<u32>) -> io::Result<()> {
        make_dir(&self.path, 0o711)?;
        let state = self.state();
        make_dir(&state, 0o700)?;
        // Nobody but us can put anything else in its place.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory: File = open(&state, flags, Mode::empty())?.into();
        let wanted = os_user.unwrap_or_else(|| geteuid().as_raw());
        let is = directory.metadata()?;
        if is.uid() != wanted && is.uid() != geteuid().as_raw() {
            let uid = is.uid();
            return Err(io::Error::other(format!(
                "{} belongs to user {uid}, not to {wanted}",
                state.display()
            )));
        }
        if is.uid() != wanted && fs::read_dir(&state)?.next().is_some() {
            return Err(io::Error::other(format!(
                "{} was used by a cell that ran as user {}; give what is in it to user {wanted}, or remove it",
                state.display(),
                is.uid()
            )));
        }
        if let Some(os_user) = os_user {
            fchown(
                &directory,
                Some(Uid::from_raw(os_user)),
                Some(Gid::from_raw(os_user)),
            )?;
        }
        directory.set_permissions(Permissions::from_mode(0o700))
    }

    /// Puts `text` where OpenClaw reads its configuration, all of it or nothing.
    pub(super) fn put_config(&self, text: &str, os_user: Option<u32>) -> io::Result<()> {
        // A name that is new, so that nothing that the cell has put there is followed.
        let mut file = tempfile::Builder::new()
            .prefix(".openclaw.json.")
            .tempfile_in(self.state())?;
        file.write_all(text.as_bytes())?;
        if let Some(os_user) = os_user {
            let (user, group) = (Uid::from_raw(os_user), Gid::from_raw(os_user));
            fchown(file.as_file(), Some(user), Some(group))?;
        }
        file.as_file().sync_all()?;
        file.persist(self.config())?;
        Ok(())
    }

    /// What OpenClaw's configuration is, if it has one.
    pub(super) fn find_config(&self) -> io::Result<Option<String>> {
        /// Many times what it ever is.
        const MOST: u64 = 16 * 1024 * 1024;

        // The cell may have put anything in its place: a link to what only we can read, or a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match open(self.config(), flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut text = String::new();
        file.take(MOST).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// The file that the process is to print to, after whatever earlier ones have; what OpenClaw has written itself is
    /// bounded, too.
    pub(super) fn open_output(&self) -> io::Result<File> {
        for log in [self.output(), self.log()] {
            let length = fs::symlink_metadata(&log).map_or(0, |is| is.len());
            if length > LOG {
                fs::rename(&log, log.with_extension("log.1"))?;
            }
        }
        File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.output())
    }

    /// What the process has printed last since its output was so long: a line that says what is wrong, or else the last one.
    pub(super) fn last_line(&self, since: u64) -> Option<String> {
        let mut file = File::open(self.output()).ok()?;
        let length = file.metadata().ok()?.len();
        let from = since.max(length.saturating_sub(TAIL));
        file.seek(SeekFrom::Start(from)).ok()?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let lines = || text.lines().rev().map(str::trim);
        // Behind an error Node prints where it was, and its own version.
        let is_problem = |line: &&str| line.contains("Error") || line.contains("nvalid");
        let line = lines().find(is_problem);
        let line = line.or_else(|| lines().find(|line| !line.is_empty()));
        line.map(str::to_owned)
    }
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let (kind, path) = (error.kind(), path.display());
            Err(io::Error::new(kind, format!("{path}: {error}")))
        }
        // Whatever the umask.
        _ => match fs::symlink_metadata(path)?.is_dir() {
            true => fs::set_permissions(path, Permissions::from_mode(mode)),
            false => Err(io::Error::other(format!(
                "{}: it is not a directory",
                path.display()
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn cell(dir: &Path) -> CellDir {
        let cells = CellsDir::open(&dir.join("cells")).unwrap();
        let cell = cells.of(&DirectoryName::for_user("alice").unwrap());
        cell.make(None).unwrap();
        cell
    }

    #[test]
    fn one_gateway_has_the_directory_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cells");
        let first = CellsDir::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o711);
        let refused = CellsDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains("another gateway"), "{refused}");
        drop(first);
        assert!(CellsDir::open(&path).unwrap().all().unwrap().is_empty());
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        assert!(
            CellsDir::open(&path).is_err(),
            "anybody can put links there"
        );
    }

    #[test]
    fn what_a_cell_has_is_for_its_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let cell = cell(dir.path());
        cell.put_config("{}", None).unwrap();
        drop(cell.open_output().unwrap());
        for (path, mode) in [
            (cell.path().to_owned(), 0o711),
            (cell.state(), 0o700),
            (cell.config(), 0o600),
            (cell.output(), 0o600),
        ] {
            assert_eq!(
                path.metadata().unwrap().mode() & 0o777,
                mode,
                "{}",
                path.display()
            );
        }
        if !geteuid().is_root() {
            println!("other users are not tested: this is not root");
            return;
        }
        let refused = cell.make(Some(700_001)).unwrap_err().to_string();
        assert!(refused.contains("700001"), "{refused}");
        fs::remove_file(cell.config()).unwrap();
        cell.make(Some(700_001)).unwrap();
        cell.put_config("{}", Some(700_001)).unwrap();
        for path in [cell.state(), cell.config()] {
            let is = path.metadata().unwrap();
            assert_eq!((is.uid(), is.gid()), (700_001, 700_001));
        }
        assert!(cell.make(Some(700_002)).is_err(), "it is another's");
        assert!(cell.make(Some(700_001)).is_ok());
    }

    #[test]
    fn a_link_that_a_cell_has_put_in_place_of_its_configuration_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let cell = cell(dir.path());
        assert_eq!(cell.find_config().unwrap(), None);
        let secret = dir.path().join("secret");
        fs::write(&secret, "canary").unwrap();
        symlink(&secret, cell.config()).unwrap();
        assert!(cell.find_config().is_err());
        cell.put_config("{}", None).unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "canary");
        assert_eq!(cell.find_config().unwrap().as_deref(), Some("{}"));
    }

    #[test]
    fn logs_are_bounded_and_the_last_line_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let cell = cell(dir.path());
        assert_eq!(cell.last_line(0), None);
        let mut output = cell.open_output().unwrap();
        writeln!(output, "before").unwrap();
        let since = cell.output().metadata().unwrap().len();
        assert_eq!(cell.last_line(since), None);
        write!(output, "first\nlast \n\n").unwrap();
        assert_eq!(cell.last_line(since).as_deref(), Some("last"));
        write!(
            output,
            "Error: no such module\n    at x\n\nNode.js v24.0.0\n"
        )
        .unwrap();
        let said = cell.last_line(since);
        assert_eq!(said.as_deref(), Some("Error: no such module"));
        output.set_len(LOG + 1).unwrap();
        fs::write(cell.log(), "short").unwrap();
        drop(cell.open_output().unwrap());
        assert_eq!(cell.output().metadata().unwrap().len(), 0);
        assert!(cell.path().join("output.log.1").exists());
        assert!(cell.log().exists());
    }
}
