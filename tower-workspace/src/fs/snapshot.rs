use std::{
    ffi::OsStr,
    ops::ControlFlow,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FileType, Stat};

use super::{
    Bounds,
    dir::Dir,
    walk::{At, Unread, Visit, Walk},
};

/// What there is of somebody's files: counts and sizes, never contents, never names.
///
/// It is of no single moment: what changes while it is taken is counted before or after the change.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The person's whole directory.
    pub total: Tally,
    /// `workspace`; absent if it is not there.
    pub workspace: Option<Tally>,
    /// `sessions`; absent if it is not there.
    pub sessions: Option<Tally>,
    /// `sandbox-workspace`, in which tools of a sandbox work; absent if it is not there.
    pub sandbox_workspace: Option<Tally>,
    /// Something was left out, because the [`Bounds`] were reached.
    pub truncated: bool,
}

/// How much there is below one directory, itself not counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Tally {
    /// Regular files; one with two names counts twice.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links. None is followed.
    pub links: u64,
    /// Pipes, sockets and devices.
    pub others: u64,
    /// Directories that were not entered: mount points, what lies too deep, what cannot be read.
    pub unread: u64,
    /// Bytes that the files have, at most `u64::MAX`. A file with holes has more than it takes.
    pub bytes: u64,
    /// Bytes that the files take on disk, at most `u64::MAX`.
    pub disk_bytes: u64,
    /// When the content of a file changed last; whoever owns a file can set that as they like.
    pub newest: Option<SystemTime>,
}

/// Counts what a walk comes by.
struct Count<'a>(&'a mut Snapshot);

// === impl Snapshot ===

impl Snapshot {
    pub(super) fn take(tree: &Dir, bounds: Bounds) -> Self {
        let mut walk = Walk::new(bounds);
        let mut snapshot = Self::default();
        let _ = walk.through(tree.fd(), Path::new(""), &mut Count(&mut snapshot));
        snapshot.truncated = walk.is_truncated();
        snapshot
    }

    fn part(&mut self, name: &OsStr) -> Option<&mut Option<Tally>> {
        match name.as_bytes() {
            b"workspace" => Some(&mut self.workspace),
            b"sessions" => Some(&mut self.sessions),
            b"sandbox-workspace" => Some(&mut self.sandbox_workspace),
            _ => None,
        }
    }
}

// === impl Tally ===

impl Tally {
    fn count(&mut self, stat: &Stat) {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                self.files += 1;
                let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                self.bytes = self.bytes.saturating_add(bytes);
                let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
                self.disk_bytes = self.disk_bytes.saturating_add(blocks.saturating_mul(BLOCK));
                self.newest = self.newest.max(modified(stat));
            }
            FileType::Directory => self.directories += 1,
            FileType::Symlink => self.links += 1,
            _ => self.others += 1,
        }
    }
}

// === impl Count ===

impl Count<'_> {
    fn at(&mut self, path: &Path, is_dir: bool, count: impl Fn(&mut Tally)) {
        count(&mut self.0.total);
        let mut names = path.iter();
        let Some(part) = names.next().and_then(|name| self.0.part(name)) else {
            return;
        };
        match names.next() {
            Some(_) => part.iter_mut().for_each(count),
            // The part itself.
            None if is_dir => *part = Some(Tally::default()),
            None => {}
        }
    }
}

impl Visit for Count<'_> {
    fn entry(&mut self, at: At<'_>, stat: &Stat) -> ControlFlow<()> {
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        self.at(at.path, is_dir, |tally| tally.count(stat));
        ControlFlow::Continue(())
    }

    fn unread(&mut self, path: &Path, _: Unread) {
        self.at(path, false, |tally| tally.unread += 1);
    }
}

/// When a file's content changed, unless that was before 1970 or is nothing the system can say.
pub(super) fn modified(stat: &Stat) -> Option<SystemTime> {
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Unit of `st_blocks`, whatever the file system's own blocks are; see stat(2).
const BLOCK: u64 = 512;
