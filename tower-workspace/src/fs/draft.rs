use std::{fs::File, io, os::fd::OwnedFd};

use aws_lc_rs::rand;
use rustix::{
    fs::{
        AtFlags, Dir as Entries, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat,
        unlinkat,
    },
    io::Errno,
};

use super::open::open_beneath;

/// A file that is being written under a name of its own, which it loses when it is dropped.
///
/// It is locked for as long: that tells it from one that a crash left.
pub(super) struct Draft<'a> {
    dir: &'a OwnedFd,
    name: String,
    file: File,
}

/// Removes what visits that were cut short left in `dir`. What cannot be removed stays, and is in
/// nobody's way.
pub(super) fn sweep(dir: &OwnedFd) {
    let Ok(entries) = Entries::read_from(dir) else {
        return;
    };
    for entry in entries.flatten().take(MAX_ENTRIES) {
        if let Ok(name) = entry.file_name().to_str()
            && is_draft(name)
            // Its lock is held until the name is gone.
            && let Some(_abandoned) = seize(dir, name)
        {
            let _ = unlinkat(dir, name, AtFlags::empty());
        }
    }
}

// === impl Draft ===

impl<'a> Draft<'a> {
    pub(super) fn create(dir: &'a OwnedFd, mode: Mode) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let name = random_name()?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = openat(dir, &name, flags, mode)?.into();
            let draft = Self { dir, name, file };
            // Before it was locked, another process may have swept it.
            if draft.lock()? {
                return Ok(draft);
            }
        }
        Err(io::Error::other("drafts are removed as they are made"))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn lock(&self) -> io::Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(fstat(&self.file)?.st_nlink > 0),
            Err(Errno::WOULDBLOCK) => Ok(false),
            // A file system without locks: nobody sweeps there.
            Err(_) => Ok(true),
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // It is gone where it was renamed.
        let _ = unlinkat(self.dir, &self.name, AtFlags::empty());
    }
}

/// Locks a draft that nobody writes any more.
fn seize(dir: &OwnedFd, name: &str) -> Option<OwnedFd> {
    // Not to wait for somebody at the other end of a planted pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open_beneath(dir, name, flags).ok()?;
    let stat = fstat(&fd).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let locked = is_file && flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok();
    locked.then_some(fd)
}

/// A name nobody else chooses: process ids are alike in containers that share a volume.
fn random_name() -> io::Result<String> {
    Ok(format!("{PREFIX}{:032x}", random()?))
}

pub(super) fn random() -> io::Result<u128> {
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
    Ok(u128::from_ne_bytes(random))
}

pub(super) fn is_draft(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

const PREFIX: &str = ".draft-";

/// More than as many sweeps as could ever hit one visit between two system calls.
const ATTEMPTS: usize = 32;

/// However many files a person has there, a visit does not look through all of them.
const MAX_ENTRIES: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;

    const LEFT: &str = ".draft-0123456789abcdef0123456789abcdef";
    const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_crash_left_is_swept_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let link = LEFT.replace('0', "1");
        let directory = LEFT.replace('0', "2");
        for name in [LEFT, ".draft-", ".draft-plan", "AGENTS.md"] {
            fs::write(at(name), "").unwrap();
        }
        symlink("AGENTS.md", at(&link)).unwrap();
        fs::create_dir(at(&directory)).unwrap();

        sweep(&open(temp.path()));

        let mut left = [".draft-", &link, &directory, ".draft-plan", "AGENTS.md"];
        left.sort_unstable();
        assert_eq!(names(temp.path()), left);
    }

    #[test]
    fn what_is_being_written_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, other) = (open(temp.path()), open(temp.path()));
        let draft = Draft::create(&dir, MODE).unwrap();
        assert!(is_draft(draft.name()));

        sweep(&other);

        assert_eq!(names(temp.path()), [draft.name()]);
        drop(draft);
        assert!(names(temp.path()).is_empty());
    }

    #[test]
    fn a_draft_that_was_swept_before_it_was_locked_is_given_up() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path());
        let file = fs::File::create(temp.path().join(LEFT)).unwrap();
        let draft = Draft {
            dir: &dir,
            name: LEFT.to_owned(),
            file,
        };

        let sweeping = seize(&dir, LEFT).unwrap();
        assert!(!draft.lock().unwrap(), "while it is swept");
        unlinkat(&dir, LEFT, AtFlags::empty()).unwrap();
        drop(sweeping);
        assert!(!draft.lock().unwrap(), "when it is gone");
    }
}
