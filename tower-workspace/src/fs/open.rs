use std::os::fd::OwnedFd;

#[cfg(target_os = "linux")]
use rustix::fs::{ResolveFlags, openat2};
use rustix::{
    fs::{Mode, OFlags, fstat, openat},
    io::Errno,
    path::Arg,
};

/// Opens one name in a directory; never through a link.
pub(super) fn open_beneath<N: Arg + Copy>(
    dir: &OwnedFd,
    name: N,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    match openat2(dir, name, flags, Mode::empty(), BENEATH) {
        // Before Linux 5.6, or forbidden by an older container runtime's seccomp profile.
        Err(Errno::NOSYS | Errno::PERM) => {}
        opened => return opened,
    }
    open_nofollow(dir, name, flags)
}

/// Opens one name in a directory; neither through a link nor across a mount point, which is
/// [`Errno::XDEV`].
pub(super) fn open_within<N: Arg + Copy>(
    dir: &OwnedFd,
    name: N,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    match openat2(
        dir,
        name,
        flags,
        Mode::empty(),
        BENEATH | ResolveFlags::NO_XDEV,
    ) {
        Err(Errno::NOSYS | Errno::PERM) => {}
        opened => return opened,
    }
    open_same_device(dir, name, flags)
}

/// As good as [`open_beneath`] for a name that is one component, as all of ours are.
fn open_nofollow<N: Arg + Copy>(dir: &OwnedFd, name: N, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// Nearly as good as [`open_within`]: it does not see a part of the same file system that is
/// mounted a second time.
fn open_same_device<N: Arg + Copy>(
    dir: &OwnedFd,
    name: N,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let opened = open_nofollow(dir, name, flags)?;
    match fstat(&opened)?.st_dev == fstat(dir)?.st_dev {
        true => Ok(opened),
        false => Err(Errno::XDEV),
    }
}

#[cfg(target_os = "linux")]
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{fs::symlink, net::UnixListener},
    };

    use super::*;

    #[test]
    fn d4_42_every_way_to_open_refuses_links() {
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
        let ways: [Open; 4] = [
            |dir, name, flags| open_beneath(dir, name, flags),
            |dir, name, flags| open_nofollow(dir, name, flags),
            |dir, name, flags| open_within(dir, name, flags),
            |dir, name, flags| open_same_device(dir, name, flags),
        ];
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
