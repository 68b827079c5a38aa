use std::{
    fs::{DirBuilder, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, fchown, fstat, fsync,
        mkdirat, renameat, renameat_with, statat,
    },
    io::Errno,
    process::{getegid, geteuid},
};

use super::{
    Owner, ProvisionError,
    draft::{self, Draft},
    open::open_beneath,
};

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
            Err(source) => return Err(io_error("create directory", path, source)),
        };
        let file = File::open(path).map_err(|source| io_error("open directory", path, source))?;
        let root = Self::trusted(file, path, owner)?;
        if created {
            // Whatever the umask: who works in a tree must pass through the root, and need not
            // see who else has one.
            root.chmod(&root.fd, path, Mode::RWXU | Mode::XGRP | Mode::XOTH)?;
        }
        Ok(root)
    }

    /// Opens the root of all trees if there is one.
    pub(super) fn find_root(
        path: &Path,
        owner: Option<Owner>,
    ) -> Result<Option<Self>, ProvisionError> {
        match File::open(path) {
            Ok(file) => Self::trusted(file, path, owner).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("open directory", path, source)),
        }
    }

    fn trusted(file: File, path: &Path, owner: Option<Owner>) -> Result<Self, ProvisionError> {
        let root = Self {
            fd: file.into(),
            path: path.to_owned(),
            owner,
        };
        let stat = root.stat(&root.fd, path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(obstructed(path.to_owned(), &stat, "a directory"));
        }
        match root.distrust(stat.st_uid, stat.st_gid, Mode::from_raw_mode(stat.st_mode)) {
            None => Ok(root),
            Some(reason) => Err(ProvisionError::UnsafeRoot {
                path: root.path,
                reason,
            }),
        }
    }

    /// Opens the directory `name`, creating it and putting mode and owner right as needed.
    pub(super) fn open_dir(&self, name: &str) -> Result<Self, ProvisionError> {
        let path = self.path.join(name);
        match mkdirat(&self.fd, name, DIR_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
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

    /// Opens the directory `name` if there is one, and changes nothing.
    pub(super) fn find_dir(&self, name: &str) -> Result<Option<Self>, ProvisionError> {
        let path = self.path.join(name);
        let fd = match open_beneath(&self.fd, name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.explain(name, "open directory", "a directory", errno)),
        };
        let stat = self.stat(&fd, &path)?;
        if !self.is_ours(&stat) {
            return Err(self.stranger(&path, &stat));
        }
        Ok(Some(Self {
            fd,
            path,
            owner: self.owner,
        }))
    }

    /// Makes sure there is a file `name`: one that is there keeps its content.
    pub(super) fn ensure_file(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
    ) -> Result<(), ProvisionError> {
        if self.open_file(name)?.is_none() {
            self.publish(name, content, Existing::Keep)?;
        }
        Ok(())
    }

    /// Whether there is anything of this name, a link or a directory too.
    pub(super) fn has(&self, name: &str) -> Result<bool, ProvisionError> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(io_error("examine", &self.path.join(name), errno.into())),
        }
    }

    /// Makes sure that the file `name` has exactly this content.
    pub(super) fn write_file(&self, name: &str, content: &str) -> Result<(), ProvisionError> {
        let sound = match self.open_file(name)? {
            Some(file) => {
                let mode = self.stat(&file, &self.path.join(name))?.st_mode;
                Mode::from_raw_mode(mode) == FILE_MODE && self.contains(file, name, content)?
            }
            None => false,
        };
        if !sound {
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
        match self.open_file(name)? {
            Some(file) => self.contains(file, name, content).map(Some),
            None => Ok(None),
        }
    }

    fn contains(&self, file: File, name: &str, content: &str) -> Result<bool, ProvisionError> {
        // One byte more than expected is enough to tell, however large the file was made.
        let mut found = Vec::with_capacity(content.len() + 1);
        file.take(content.len() as u64 + 1)
            .read_to_end(&mut found)
            .map_err(|source| io_error("read", &self.path.join(name), source))?;
        Ok(found == content.as_bytes())
    }

    /// Whether there is a regular file `name` with another content; changes nothing.
    pub(super) fn names_other(&self, name: &str, content: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(fd) = open_beneath(&self.fd, name, flags) else {
            return false;
        };
        let is_file = fstat(&fd)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        let mut found = Vec::with_capacity(content.len() + 1);
        let read = File::from(fd)
            .take(content.len() as u64 + 1)
            .read_to_end(&mut found);
        is_file && read.is_ok() && found != content.as_bytes()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Opens an existing file, if it is one that may be trusted.
    ///
    /// Nothing of it is changed, its mode neither: that could be the mode of a file elsewhere, whose
    /// link to here was removed while we looked. Ours get mode and owner before they get their name.
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
        if stat.st_uid != self.expected_uid() {
            return Err(self.stranger(&path, &stat));
        }
        Ok(Some(fd.into()))
    }

    /// Writes a file under a name of its own and gives it `name` when it is whole and on disk.
    fn publish(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
        existing: Existing,
    ) -> Result<(), ProvisionError> {
        let path = self.path.join(name);
        draft::sweep(&self.fd);
        let draft = Draft::create(&self.fd, FILE_MODE)
            .map_err(|source| io_error("create", &path, source))?;
        self.fill(draft.file(), &path, content.as_ref())?;
        self.rename(draft.name(), name, existing)
            .map_err(|errno| self.explain(name, "replace", "a regular file", errno))?;
        drop(draft);
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

    fn fill(&self, mut file: &File, path: &Path, content: &[u8]) -> Result<(), ProvisionError> {
        let stat = self.stat(file, path)?;
        self.settle(file, path, &stat, FILE_MODE)?;
        file.write_all(content)
            .and_then(|()| file.sync_all())
            .map_err(|source| io_error("write", path, source))
    }

    /// Puts owner and mode right, but takes nothing from a stranger.
    fn settle(
        &self,
        fd: impl AsFd + Copy,
        path: &Path,
        stat: &Stat,
        mode: Mode,
    ) -> Result<(), ProvisionError> {
        // What still belongs to this process's user was left by an interrupted visit.
        if !self.is_ours(stat) {
            return Err(self.stranger(path, stat));
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

    fn chmod(&self, fd: impl AsFd, path: &Path, mode: Mode) -> Result<(), ProvisionError> {
        fchmod(fd, mode).map_err(|errno| io_error("change mode of", path, errno.into()))
    }

    fn stat(&self, fd: impl AsFd, path: &Path) -> Result<Stat, ProvisionError> {
        fstat(fd).map_err(|errno| io_error("examine", path, errno.into()))
    }

    /// Whether it belongs to the owner or to this process's user.
    pub(super) fn is_ours(&self, stat: &Stat) -> bool {
        [self.expected_uid(), geteuid().as_raw()].contains(&stat.st_uid)
    }

    fn expected_uid(&self) -> u32 {
        self.owner
            .map_or_else(|| geteuid().as_raw(), |owner| owner.uid)
    }

    /// Who else may exchange what is in a root of this user, group and mode, if anybody may.
    fn distrust(&self, uid: u32, gid: u32, mode: Mode) -> Option<&'static str> {
        let uids = [0, geteuid().as_raw(), self.expected_uid()];
        let owned_gid = self.owner.map_or(0, |owner| owner.gid);
        let gids = [0, getegid().as_raw(), owned_gid];
        let is_sticky = mode.contains(Mode::SVTX);
        if !uids.contains(&uid) {
            Some("belongs to somebody else")
        } else if mode.contains(Mode::WOTH) && !is_sticky {
            Some("is writable by everybody")
        } else if mode.contains(Mode::WGRP) && !is_sticky && !gids.contains(&gid) {
            Some("is writable by another group")
        } else {
            None
        }
    }

    fn stranger(&self, path: &Path, stat: &Stat) -> ProvisionError {
        ProvisionError::WrongOwner {
            path: path.to_owned(),
            uid: stat.st_uid,
            expected: self.expected_uid(),
        }
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

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
        thread,
    };

    use tempfile::TempDir;

    use super::*;

    fn root() -> (TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open_root(&temp.path().join("root"), None).unwrap();
        (temp, root)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_root_that_is_missing_is_made_for_passing_through() {
        let (temp, root) = root();
        assert_eq!(mode(root.path()), 0o711);
        fs::set_permissions(root.path(), Permissions::from_mode(0o750)).unwrap();
        Dir::open_root(root.path(), None).unwrap();
        assert_eq!(mode(root.path()), 0o750, "one that is there is left alone");
        assert!(
            Dir::open_root(&temp.path().join("not/there"), None).is_err(),
            "only the last directory is made, or a lost mount would go unnoticed"
        );
    }

    #[test]
    fn d4_42_a_root_that_everybody_may_write_to_must_be_sticky() {
        let (_temp, root) = root();
        let open = || Dir::open_root(root.path(), None);
        fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(open(), Err(ProvisionError::UnsafeRoot { .. })));
        fs::set_permissions(root.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(open().is_ok());
    }

    #[test]
    fn d4_42_a_root_that_another_group_may_write_to_must_be_sticky() {
        let (_temp, root) = root();
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let [other, instance] = [gid + 1, gid + 2];
        let of_instance = Dir {
            owner: Some(Owner::new(uid, instance).unwrap()),
            ..root
        };
        for (gid, mode, trusted) in [
            (other, 0o755, true),
            (other, 0o775, false),
            (other, 0o1775, true),
            (gid, 0o775, true),
            (0, 0o775, true),
            (instance, 0o775, true),
        ] {
            let reason = of_instance.distrust(uid, gid, Mode::from_raw_mode(mode));
            assert_eq!(reason.is_none(), trusted, "group {gid}, mode {mode:o}");
        }
        let nobodys = Dir {
            owner: None,
            ..of_instance
        };
        let reason = nobodys.distrust(uid, instance, Mode::from_raw_mode(0o775));
        assert_eq!(reason, Some("is writable by another group"));
    }

    #[test]
    fn d4_42_a_root_that_is_a_file_is_refused() {
        let (_temp, root) = root();
        let path = root.path().join("file");
        fs::write(&path, "").unwrap();
        let refused = Dir::open_root(&path, None);
        assert!(matches!(refused, Err(ProvisionError::Obstructed { .. })));
    }

    #[test]
    fn d4_42_a_directory_replaced_on_the_way_leads_nowhere_else() {
        let (temp, root) = root();
        let outside = temp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let tree = root.open_dir("alice").unwrap();
        let moved = root.path().join("moved");
        fs::rename(tree.path(), &moved).unwrap();
        symlink(&outside, tree.path()).unwrap();

        tree.open_dir("workspace").unwrap();
        tree.write_file("file", "content").unwrap();

        assert!(moved.join("workspace").is_dir());
        assert_eq!(fs::read_to_string(moved.join("file")).unwrap(), "content");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn d4_42_a_file_that_may_be_elsewhere_keeps_its_mode_and_what_is_ours_is_written_anew() {
        let (_temp, root) = root();
        let path = root.path().join("file");
        let mode = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        fs::write(&path, "content").unwrap();
        mode(0o640);
        let found = fs::metadata(&path).unwrap();
        root.ensure_file("file", "other").unwrap();
        assert_eq!(root.has_content("file", "content").unwrap(), Some(true));
        assert_eq!(fs::metadata(&path).unwrap().mode(), found.mode());

        let elsewhere = File::open(&path).unwrap();
        root.write_file("file", "content").unwrap();
        assert_eq!(elsewhere.metadata().unwrap().mode(), found.mode());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_file_that_appears_first_is_kept_and_no_draft_stays() {
        let (_temp, root) = root();
        root.publish("file", "first", Existing::Keep).unwrap();
        root.publish("file", "second", Existing::Keep).unwrap();
        assert_eq!(root.has_content("file", "first").unwrap(), Some(true));
        root.publish("file", "third", Existing::Replace).unwrap();
        assert_eq!(root.has_content("file", "third").unwrap(), Some(true));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_publication_leaves_no_draft() {
        let (_temp, root) = root();
        fs::create_dir(root.path().join("file")).unwrap();
        let refused = root.publish("file", "content", Existing::Replace);
        assert!(matches!(refused, Err(ProvisionError::Obstructed { .. })));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_visit_that_was_cut_short_left_is_removed_by_the_next_that_writes() {
        let (_temp, root) = root();
        let left = root.path().join(".draft-0123456789abcdef0123456789abcdef");
        fs::write(&left, "half of").unwrap();
        root.ensure_file("file", "content").unwrap();
        assert!(!left.exists());
        assert_eq!(root.has_content("file", "content").unwrap(), Some(true));
    }

    #[test]
    fn visits_that_write_at_once_do_not_sweep_one_anothers_drafts() {
        let (_temp, root) = root();
        thread::scope(|scope| {
            for writer in 0..8 {
                let root = &root;
                scope.spawn(move || {
                    for round in 0..50 {
                        let content = format!("{writer} {round}");
                        root.publish("file", &content, Existing::Replace).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn content_is_compared_to_the_last_byte() {
        let (_temp, root) = root();
        root.write_file("file", "content").unwrap();
        for other in ["", "conten", "content ", "Content"] {
            assert_eq!(root.has_content("file", other).unwrap(), Some(false));
        }
        assert_eq!(root.has_content("file", "content").unwrap(), Some(true));
        assert_eq!(root.has_content("none", "content").unwrap(), None);
    }
}
