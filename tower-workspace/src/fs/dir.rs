use std::{
    fs::{DirBuilder, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, fchown, fstat, fsync,
        mkdirat, openat, renameat, renameat_with, statat, unlinkat,
    },
    io::Errno,
    process::geteuid,
};

use super::{Owner, ProvisionError};

/// A directory of a tree, held open.
///
/// Every step below goes from the descriptor to one name in it and never through a link, so that
/// nobody who exchanges a directory under our feet can lead us elsewhere.
pub(super) struct Dir {
    fd: OwnedFd,
    // For messages only.
    path: PathBuf,
    owner: Option<Owner>,
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy)]
enum Existing {
    Keep,
    Replace,
}

// === impl Dir ===

impl Dir {
    /// Opens the root of all trees, or creates it if its parent is there.
    pub(super) fn open_root(path: &Path, owner: Option<Owner>) -> Result<Self, ProvisionError> {
        let created = match DirBuilder::new().mode(0o711).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            // On a read-only file system this comes before "already exists".
            Err(_) if path.is_dir() => false,
            Err(source) => return Err(io_error("create directory", path, source)),
        };
        let file = File::open(path).map_err(|source| io_error("open directory", path, source))?;
        let root = Self {
            fd: file.into(),
            path: path.to_owned(),
            owner,
        };
        let stat = root.stat(&root.fd, path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(obstructed(path.to_owned(), &stat, "a directory"));
        }
        if created {
            // Whatever the umask: who works in a tree must pass through the root, and need not
            // see who else has one.
            root.chmod(&root.fd, path, Mode::RWXU | Mode::XGRP | Mode::XOTH)?;
        }
        let uids = [0, geteuid().as_raw(), root.expected_uid()];
        let reason = if !uids.contains(&stat.st_uid) {
            "belongs to somebody else"
        } else if Mode::from_raw_mode(stat.st_mode) & (Mode::WOTH | Mode::SVTX) == Mode::WOTH {
            "is writable by everybody"
        } else {
            return Ok(root);
        };
        Err(ProvisionError::UnsafeRoot {
            path: root.path,
            reason,
        })
    }

    /// Opens the directory `name`, creating it and putting mode and owner right as needed.
    pub(super) fn open_dir(&self, name: &str) -> Result<Self, ProvisionError> {
        let path = self.path.join(name);
        match mkdirat(&self.fd, name, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A read-only file system may answer so before it looks whether the name is there.
            Err(Errno::ROFS) if self.exists(name) => {}
            Err(errno) => return Err(io_error("create directory", &path, errno.into())),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = open_beneath(&self.fd, name, flags)
            .map_err(|errno| self.explain(name, "open directory", "a directory", errno))?;
        let stat = self.stat(&fd, &path)?;
        self.settle(&fd, &path, &stat, DIR_MODE)?;
        Ok(Self {
            fd,
            path,
            owner: self.owner,
        })
    }

    /// Makes sure there is a file `name`: one that is there keeps its content.
    pub(super) fn ensure_file(&self, name: &str, content: &str) -> Result<(), ProvisionError> {
        if self.open_file(name)?.is_none() {
            self.publish(name, content, Existing::Keep)?;
        }
        Ok(())
    }

    /// Makes sure that the file `name` has exactly this content.
    pub(super) fn write_file(&self, name: &str, content: &str) -> Result<(), ProvisionError> {
        if !self.has_content(name, content)?.unwrap_or(false) {
            self.publish(name, content, Existing::Replace)?;
        }
        Ok(())
    }

    /// Whether the file `name` has exactly this content; `None` if there is no such file.
    pub(super) fn has_content(
        &self,
        name: &str,
        content: &str,
    ) -> Result<Option<bool>, ProvisionError> {
        let Some(file) = self.open_file(name)? else {
            return Ok(None);
        };
        // One byte more than expected is enough to tell, however large the file was made.
        let mut found = Vec::with_capacity(content.len() + 1);
        file.take(content.len() as u64 + 1)
            .read_to_end(&mut found)
            .map_err(|source| io_error("read", &self.path.join(name), source))?;
        Ok(Some(found == content.as_bytes()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens an existing file, if it is one that may be trusted, and puts mode and owner right.
    fn open_file(&self, name: &str) -> Result<Option<File>, ProvisionError> {
        let path = self.path.join(name);
        // Not to wait for somebody at the other end of a planted pipe.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match open_beneath(&self.fd, name, flags) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.explain(name, "open", "a regular file", errno)),
        };
        let stat = self.stat(&fd, &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(obstructed(path, &stat, "a regular file"));
        }
        // None at all is fine: another process has just replaced the file.
        if stat.st_nlink > 1 {
            return Err(ProvisionError::HardLinked { path });
        }
        self.settle(&fd, &path, &stat, FILE_MODE)?;
        Ok(Some(fd.into()))
    }

    /// Writes a file under a name of its own and gives it `name` when it is whole and on disk.
    fn publish(&self, name: &str, content: &str, existing: Existing) -> Result<(), ProvisionError> {
        let path = self.path.join(name);
        let draft = draft_name().map_err(|source| io_error("create", &path, source))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let fd = openat(&self.fd, &draft, flags | OFlags::CLOEXEC, FILE_MODE)
            .map_err(|errno| io_error("create", &path, errno.into()))?;
        let published = self.fill(fd, &path, content).and_then(|()| {
            self.rename(&draft, name, existing)
                .map_err(|errno| self.explain(name, "replace", "a regular file", errno))
        });
        // It is gone where it was renamed. Where it cannot be removed, the first error counts.
        let _ = unlinkat(&self.fd, &draft, AtFlags::empty());
        published?;
        fsync(&self.fd).map_err(|errno| io_error("sync", &self.path, errno.into()))
    }

    fn rename(&self, draft: &str, name: &str, existing: Existing) -> Result<(), Errno> {
        if let Existing::Keep = existing {
            match renameat_with(&self.fd, draft, &self.fd, name, RenameFlags::NOREPLACE) {
                // Another process was first.
                Ok(()) | Err(Errno::EXIST) => return Ok(()),
                // The file system cannot do that: what is replaced is a moment old and alike.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                Err(errno) => return Err(errno),
            }
        }
        renameat(&self.fd, draft, &self.fd, name)
    }

    fn fill(&self, fd: OwnedFd, path: &Path, content: &str) -> Result<(), ProvisionError> {
        let stat = self.stat(&fd, path)?;
        self.settle(&fd, path, &stat, FILE_MODE)?;
        let mut file = File::from(fd);
        file.write_all(content.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|source| io_error("write", path, source))
    }

    /// Puts owner and mode right, but takes nothing from a stranger.
    fn settle(
        &self,
        fd: &OwnedFd,
        path: &Path,
        stat: &Stat,
        mode: Mode,
    ) -> Result<(), ProvisionError> {
        let expected = self.expected_uid();
        // What still belongs to this process's user was left by an interrupted visit.
        if stat.st_uid != expected && stat.st_uid != geteuid().as_raw() {
            return Err(ProvisionError::WrongOwner {
                path: path.to_owned(),
                uid: stat.st_uid,
                expected,
            });
        }
        if let Some(Owner { uid, gid }) = self.owner
            && (stat.st_uid, stat.st_gid) != (uid, gid)
        {
            fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|errno| {
                match errno {
                    Errno::PERM => ProvisionError::OwnerDenied {
                        path: path.to_owned(),
                        uid,
                        gid,
                        source: errno.into(),
                    },
                    _ => io_error("change owner of", path, errno.into()),
                }
            })?;
        }
        if Mode::from_raw_mode(stat.st_mode) != mode {
            self.chmod(fd, path, mode)?;
        }
        Ok(())
    }

    fn chmod(&self, fd: &OwnedFd, path: &Path, mode: Mode) -> Result<(), ProvisionError> {
        fchmod(fd, mode).map_err(|errno| io_error("change mode of", path, errno.into()))
    }

    fn stat(&self, fd: &OwnedFd, path: &Path) -> Result<Stat, ProvisionError> {
        fstat(fd).map_err(|errno| io_error("examine", path, errno.into()))
    }

    fn exists(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn expected_uid(&self) -> u32 {
        self.owner
            .map_or_else(|| geteuid().as_raw(), |owner| owner.uid)
    }

    /// Says what stands in the way if something does, else what the system said.
    fn explain(
        &self,
        name: &str,
        action: &'static str,
        expected: &'static str,
        errno: Errno,
    ) -> ProvisionError {
        let path = self.path.join(name);
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if describe(&stat) != expected => obstructed(path, &stat, expected),
            _ => io_error(action, &path, errno.into()),
        }
    }
}

/// Opens one name in a directory; never through a link.
fn open_beneath(dir: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{ResolveFlags, openat2};

        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(&dir, name, flags, Mode::empty(), resolve) {
            // Before Linux 5.6, or forbidden by an older container runtime's seccomp profile.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return opened,
        }
    }
    open_nofollow(dir, name, flags)
}

/// As good as [`open_beneath`] for a name that is one component, as all of ours are.
fn open_nofollow(dir: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// A name nobody else chooses: process ids are alike in containers that share a volume.
fn draft_name() -> io::Result<String> {
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
    Ok(format!(".draft-{:032x}", u128::from_ne_bytes(random)))
}

fn obstructed(path: PathBuf, stat: &Stat, expected: &'static str) -> ProvisionError {
    ProvisionError::Obstructed {
        path,
        found: describe(stat),
        expected,
    }
}

fn describe(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => "a directory",
        FileType::RegularFile => "a regular file",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> ProvisionError {
    ProvisionError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

const DIR_MODE: Mode = Mode::RWXU;
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
