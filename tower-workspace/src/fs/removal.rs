//! How a person's directory is removed: it loses its name, then it is emptied.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

#[cfg(target_os = "linux")]
use rustix::process::geteuid;
use rustix::{
    fs::{
        AtFlags, Dir as Entries, FileType, Mode, OFlags, RenameFlags, fchmod, fstat, fsync,
        renameat, renameat_with, statat, unlinkat,
    },
    io::Errno,
};

use super::{ProvisionError, dir::Dir, draft::random, open::open_within};
use crate::DirectoryName;

/// What becomes of the directory that has the person's name.
pub(super) struct Removal<'a> {
    root: &'a Dir,
    name: &'a DirectoryName,
}

/// A directory that is being emptied, and what stood in the way.
struct Emptied<'a> {
    top: OwnedFd,
    path: &'a Path,
    /// Directories in `top` that are not empty yet.
    pending: Vec<CString>,
    progress: bool,
    failed: Option<ProvisionError>,
}

// === impl Removal ===

impl<'a> Removal<'a> {
    pub(super) fn new(root: &'a Dir, name: &'a DirectoryName) -> Self {
        Self { root, name }
    }

    /// The directory that has the person's name.
    pub(super) fn find(&self) -> Result<Option<Dir>, ProvisionError> {
        let name = self.name.as_str();
        match self.root.find_dir(name) {
            Err(ProvisionError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                let permitted = CString::new(name).map_err(|_| Errno::INVAL);
                let permitted = permitted.and_then(|name| permit(self.root.fd(), &name));
                permitted.map_err(|_| self.failed("open directory", source))?;
                self.root.find_dir(name)
            }
            found => found,
        }
    }

    /// Takes the name away from what has it: whoever comes from now on gets a new directory. What it
    /// is was seen before; in between, another process may have put a new one there.
    pub(super) fn bury(
        &self,
        refuse: impl Fn(&Dir) -> Result<(), ProvisionError>,
    ) -> Result<(), ProvisionError> {
        let fd = self.root.fd();
        let random = random().map_err(|source| self.failed("rename", source))?;
        let tombstone = format!("{PREFIX}{}-{random:032x}", self.name);
        match rename(fd, self.name.as_str(), &tombstone) {
            Ok(()) => {}
            // Another process was first.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failed("rename", errno.into())),
        }
        // Nothing there: another process has removed it already.
        let found = self.root.find_dir(&tombstone);
        if let Err(error) = found.and_then(|tree| tree.as_ref().map_or(Ok(()), refuse)) {
            let _ = rename(fd, &tombstone, self.name.as_str());
            return Err(error);
        }
        fsync(fd).map_err(|errno| ProvisionError::Io {
            action: "sync",
            path: self.root.path().to_owned(),
            source: errno.into(),
        })
    }

    /// Empties and removes whatever had the person's name before.
    pub(super) fn clear(&self) -> Result<bool, ProvisionError> {
        clear(self.root, |tombstone| {
            owner_of(tombstone) == Some(self.name.as_str())
        })
    }

    fn failed(&self, action: &'static str, source: io::Error) -> ProvisionError {
        ProvisionError::Io {
            action,
            path: self.root.path().join(self.name),
            source,
        }
    }
}

/// Empties and removes what has lost its name, as far as it is `wanted`. Goes on where something
/// stands in the way, and says at the end what was the first. `false` if there was nothing.
pub(super) fn clear(root: &Dir, wanted: impl Fn(&str) -> bool) -> Result<bool, ProvisionError> {
    let unreadable = |errno: Errno| ProvisionError::Io {
        action: "list",
        path: root.path().to_owned(),
        source: errno.into(),
    };
    let mut tombstones = Vec::new();
    for entry in Entries::read_from(root.fd()).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if let Ok(name) = entry.file_name().to_str()
            && owner_of(name).is_some()
            && wanted(name)
        {
            tombstones.push(entry.file_name().to_owned());
        }
    }
    let mut failed = None;
    for tombstone in &tombstones {
        if let Err(error) = remove(root, tombstone) {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(!tombstones.is_empty()), Err)
}

/// Renames within one directory, onto nothing.
fn rename(dir: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    match renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // The file system cannot do that; a directory replaces none that has anything in it.
        Err(Errno::INVAL | Errno::NOSYS) => renameat(dir, from, dir, to),
        renamed => renamed,
    }
}

fn remove(root: &Dir, tombstone: &CStr) -> Result<(), ProvisionError> {
    let path = child(root.path(), tombstone);
    let top = match open_to_empty(root.fd(), tombstone) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        // Nothing that we have buried; the name goes, whatever it leads to stays.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return match unlinkat(root.fd(), tombstone, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(explain(path, errno)),
            };
        }
        Err(errno) => return Err(explain(path, errno)),
    };
    let mut emptied = Emptied {
        top,
        path: &path,
        pending: Vec::new(),
        progress: false,
        failed: None,
    };
    // Who still works in there may add something while we look elsewhere.
    for _ in 0..PASSES {
        emptied.pass();
        match unlinkat(root.fd(), tombstone, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if emptied.progress || emptied.failed.is_none() => {
            }
            Err(errno) => return Err(emptied.failed.unwrap_or_else(|| explain(path, errno))),
        }
    }
    Err(explain(path, Errno::NOTEMPTY))
}

// === impl Emptied ===

impl Emptied<'_> {
    /// Goes once through everything.
    ///
    /// However deep somebody has nested their directories, this holds two of them open: it moves
    /// what is in a directory of `top` up into `top`.
    fn pass(&mut self) {
        self.progress = false;
        self.failed = None;
        match Entries::read_from(&self.top) {
            Ok(entries) => {
                for entry in entries.flatten() {
                    self.remove_here(entry.file_name());
                    self.finish_pending();
                }
            }
            Err(errno) => self.fail(self.path.to_owned(), errno),
        }
    }

    fn finish_pending(&mut self) {
        while let Some(name) = self.pending.pop() {
            self.remove_here(&name);
        }
    }

    /// Removes an entry of `top`.
    fn remove_here(&mut self, name: &CStr) {
        if is_dot(name) {
            return;
        }
        let path = child(self.path, name);
        match unlink(&self.top, name) {
            Ok(true) => self.progress = true,
            Ok(false) => {
                let dir = match open_to_empty(&self.top, name) {
                    Ok(dir) => dir,
                    Err(Errno::NOENT) => return,
                    Err(errno) => return self.fail(path, errno),
                };
                self.empty(&dir, &path);
                match unlinkat(&self.top, name, AtFlags::REMOVEDIR) {
                    Ok(()) => self.progress = true,
                    Err(Errno::NOENT) => {}
                    Err(errno) => self.fail(path, errno),
                }
            }
            Err(errno) => self.fail(path, errno),
        }
    }

    /// Removes the entries of `dir`, and moves to `top` what is not empty.
    fn empty(&mut self, dir: &OwnedFd, path: &Path) {
        let entries = match Entries::read_from(dir) {
            Ok(entries) => entries,
            Err(errno) => return self.fail(path.to_owned(), errno),
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if is_dot(name) {
                continue;
            }
            match unlink(dir, name).and_then(|done| match done {
                true => Ok(None),
                false => lift(dir, name, &self.top).map(Some),
            }) {
                Ok(lifted) => {
                    self.progress = true;
                    // The others are found by the next pass.
                    self.pending
                        .extend(lifted.filter(|_| self.pending.len() < PENDING));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => self.fail(child(path, name), errno),
            }
        }
    }

    fn fail(&mut self, path: PathBuf, errno: Errno) {
        // What is not empty again has nothing in the way.
        if ![Errno::NOTEMPTY, Errno::EXIST].contains(&errno) {
            self.failed.get_or_insert_with(|| explain(path, errno));
        }
    }
}

/// Removes a name, of whatever but a directory that is not empty; then it is `false`.
fn unlink(dir: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        // POSIX has the one, Linux the other for a directory.
        Err(Errno::PERM | Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Errno::PERM);
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Moves a directory up to `top`, under a name of its own.
fn lift(dir: &OwnedFd, name: &CStr, top: &OwnedFd) -> Result<CString, Errno> {
    let lifted = format!("{:032x}", random().map_err(|_| Errno::IO)?);
    let lifted = CString::new(lifted).map_err(|_| Errno::INVAL)?;
    match renameat(dir, name, top, &lifted) {
        // What is moved elsewhere is itself written to: its entry `..`.
        Err(Errno::ACCESS) => {
            permit(dir, name)?;
            renameat(dir, name, top, &lifted)?;
        }
        moved => moved?,
    }
    Ok(lifted)
}

/// Opens a directory of which everything is to be removed, which it takes permission for.
fn open_to_empty(dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let opened = match open_within(dir, name, flags) {
        Err(Errno::ACCESS) => {
            permit(dir, name)?;
            open_within(dir, name, flags)?
        }
        opened => opened?,
    };
    let mode = Mode::from_raw_mode(fstat(&opened)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // Who may not do this may still be allowed to remove what is in it.
        let _ = fchmod(&opened, Mode::RWXU);
    }
    Ok(opened)
}

/// Lets us into a directory of ours that its owner has closed to themselves.
#[cfg(target_os = "linux")]
fn permit(dir: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;

    // A directory has no second name: this one is where it seems to be, and nobody else's.
    let fd = open_within(dir, name, OFlags::PATH | OFlags::DIRECTORY)?;
    if fstat(&fd)?.st_uid != geteuid().as_raw() {
        return Err(Errno::ACCESS);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::RWXU)
}

/// Elsewhere there is no way to do that which could not be led astray.
#[cfg(not(target_os = "linux"))]
fn permit(_: &OwnedFd, _: &CStr) -> Result<(), Errno> {
    Err(Errno::ACCESS)
}

fn explain(path: PathBuf, errno: Errno) -> ProvisionError {
    match errno {
        Errno::XDEV | Errno::BUSY => ProvisionError::Mounted { path },
        _ => ProvisionError::Io {
            action: "remove",
            path,
            source: errno.into(),
        },
    }
}

/// Whose directory it was that has such a name now.
fn owner_of(tombstone: &str) -> Option<&str> {
    let (name, random) = tombstone.strip_prefix(PREFIX)?.rsplit_once('-')?;
    let is_random = random.len() == 32 && random.bytes().all(|b| b.is_ascii_hexdigit());
    is_random.then_some(name)
}

fn child(path: &Path, name: &CStr) -> PathBuf {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    path.join(OsStr::from_bytes(name.to_bytes()))
}

fn is_dot(name: &CStr) -> bool {
    [c".", c".."].contains(&name)
}

/// No [`DirectoryName`] begins with a dot.
const PREFIX: &str = ".removed-";

/// As often as something that works in there may have added something.
const PASSES: usize = 1_000;

/// Directories that are kept in mind.
const PENDING: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d4_47_a_tombstone_is_no_name_of_a_person_and_says_whose_it_was() {
        let random = "0123456789abcdef0123456789abcdef";
        for name in ["alice", "a-b", "_auth0-1-ibbuixvn53vsuxmillz4cm7wb3"] {
            let tombstone = format!("{PREFIX}{name}-{random}");
            assert_eq!(owner_of(&tombstone), Some(name));
            let imitation = DirectoryName::for_user(&tombstone).unwrap();
            assert_eq!(owner_of(imitation.as_str()), None);
        }
        for other in ["alice", ".removed-alice", ".removed-alice-0123", ".draft-x"] {
            assert_eq!(owner_of(other), None);
        }
    }
}
