use std::os::fd::OwnedFd;

#[cfg(target_os = "linux")]
use rustix::fs::{ResolveFlags, openat2};
use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};

/// Opens one name in a directory; never through a link.
pub(super) fn open_beneath(dir: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(dir, name, flags, Mode::empty(), resolve) {
            // Before Linux 5.6, or forbidden by an older container runtime's seccomp profile.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return opened,
        }
    }
    open_nofollow(dir, name, flags)
}

/// As good as [`open_beneath`] for a name that is one component, as all of ours are.
fn open_nofollow(dir: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{fs::symlink, net::UnixListener},
    };

    use super::*;

    #[test]
    fn d4_42_both_ways_to_open_refuse_links() {
        let temp = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(fs::File::open(temp.path()).unwrap());
        let at = |name: &str| temp.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("dir", at("dir-link")).unwrap();
        symlink("file", at("file-link")).unwrap();
        symlink("none", at("dangling")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();

        let file = OFlags::RDONLY | OFlags::NONBLOCK;
        let dir = OFlags::RDONLY | OFlags::DIRECTORY;
        type Open = fn(&OwnedFd, &str, OFlags) -> Result<OwnedFd, Errno>;
        let ways: [Open; 2] = [open_beneath, open_nofollow];
        for open in ways {
            assert!(open(&root, "dir", dir).is_ok());
            assert!(open(&root, "file", file).is_ok());
            for (name, flags) in [
                ("dir-link", dir),
                ("dir-link", file),
                ("file-link", file),
                ("dangling", file),
                ("socket", file),
                ("file", dir),
            ] {
                assert!(open(&root, name, flags).is_err(), "{name}");
            }
            assert_eq!(open(&root, "none", file).unwrap_err(), Errno::NOENT);
        }
    }
}
