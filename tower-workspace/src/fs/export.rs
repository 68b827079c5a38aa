use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, Write},
    ops::ControlFlow,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, Stat, fstat, readlinkat},
    io::Errno,
};
use thiserror::Error;

use super::{
    Archive, Bounds, ProvisionError,
    archive::{Copied, Head, Kind},
    dir::Dir,
    open::open_within,
    snapshot::modified,
    walk::{At, Unread, Visit, Walk},
};

/// What went into an [`Archive`] of somebody's files, and what did not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Exported {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links, as links.
    pub links: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// How many were left out or came through damaged.
    pub omitted: u64,
    /// The first thousand of those.
    pub omissions: Vec<Omission>,
    /// The rest was left out, because the [`Bounds`] were reached.
    pub truncated: bool,
}

/// Something that is not in an export as it was in the directory.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Omission {
    /// Where, from the person's directory.
    pub path: PathBuf,
    /// Why.
    pub reason: OmissionReason,
}

/// Why something is not in an export as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum OmissionReason {
    /// It is a pipe, a socket or a device.
    Special,
    /// It has more than one name, perhaps of somebody else's.
    HardLinked,
    /// It belongs to a stranger.
    Stranger,
    /// Something else is mounted there.
    Mount,
    /// It lies deeper than the bounds allow.
    TooDeep,
    /// It has more bytes than the bounds leave.
    TooLarge,
    /// The system refuses to read it.
    Unreadable,
    /// It became shorter while it was read; what was missing is zeros.
    Changed,
}

/// Why there is no export.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The person's directory is not what it should be.
    #[error(transparent)]
    Workspace(#[from] ProvisionError),
    /// The archive could not be written on.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

struct Export<'a, W> {
    tree: &'a Dir,
    archive: &'a mut Archive<W>,
    exported: Exported,
    bytes_left: u64,
    failed: Option<io::Error>,
}

// === impl OmissionReason ===

impl OmissionReason {
    /// The reason in one word, which never changes: `special`, `hard-linked`, ….
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Special => "special",
            Self::HardLinked => "hard-linked",
            Self::Stranger => "stranger",
            Self::Mount => "mount",
            Self::TooDeep => "too-deep",
            Self::TooLarge => "too-large",
            Self::Unreadable => "unreadable",
            Self::Changed => "changed",
        }
    }
}

// === impl Export ===

/// Writes the parts of a person's directory that are theirs.
pub(super) fn export<W: Write>(
    tree: &Dir,
    bounds: Bounds,
    archive: &mut Archive<W>,
) -> Result<Exported, ExportError> {
    let mut walk = Walk::new(bounds);
    let mut export = Export {
        tree,
        archive,
        exported: Exported::default(),
        bytes_left: bounds.bytes,
        failed: None,
    };
    for part in PARTS {
        let mut names = part.split('/');
        let Some(first) = names.next() else { continue };
        let mut dir = tree.find_dir(first);
        for name in names {
            dir = dir.and_then(|dir| dir.map_or(Ok(None), |dir| dir.find_dir(name)));
        }
        let flow = match dir {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(dir)) => walk.through(dir.fd(), Path::new(part), &mut export),
            Err(error) => {
                let reason = match error {
                    ProvisionError::Obstructed { .. } => OmissionReason::Special,
                    ProvisionError::WrongOwner { .. } => OmissionReason::Stranger,
                    _ => OmissionReason::Unreadable,
                };
                export.omit(Path::new(part), reason);
                ControlFlow::Continue(())
            }
        };
        if flow.is_break() {
            break;
        }
    }
    let Export {
        mut exported,
        failed,
        ..
    } = export;
    if let Some(error) = failed {
        return Err(ExportError::Write(error));
    }
    exported.truncated = walk.is_truncated();
    Ok(exported)
}

impl<W: Write> Export<'_, W> {
    fn omit(&mut self, path: &Path, reason: OmissionReason) {
        self.exported.omitted += 1;
        if self.exported.omissions.len() < OMISSIONS {
            let path = path.to_owned();
            self.exported.omissions.push(Omission { path, reason });
        }
    }

    fn file(&mut self, at: At<'_>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = open_within(at.dir, at.name, flags);
        let opened = opened.and_then(|fd| Ok((fstat(&fd)?, fd)));
        let (stat, fd) = match opened {
            Ok(opened) => opened,
            // Gone, or exchanged for a link.
            Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
            Err(errno) => {
                let reason = match errno {
                    Errno::XDEV => OmissionReason::Mount,
                    _ => OmissionReason::Unreadable,
                };
                self.omit(at.path, reason);
                return Ok(());
            }
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let reason = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_nlink > 1 => OmissionReason::HardLinked,
            FileType::RegularFile if !self.tree.is_ours(&stat) => OmissionReason::Stranger,
            FileType::RegularFile if size > self.bytes_left => OmissionReason::TooLarge,
            FileType::RegularFile => return self.content(at.path, fd, &stat, size),
            _ => OmissionReason::Special,
        };
        self.omit(at.path, reason);
        Ok(())
    }

    fn content(&mut self, path: &Path, fd: OwnedFd, stat: &Stat, size: u64) -> io::Result<()> {
        let runs = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
        self.archive.head(&Head {
            path,
            kind: Kind::File { size },
            mode: if runs { 0o700 } else { 0o600 },
            modified: modified(stat),
        })?;
        if self.archive.content(File::from(fd), size)? == Copied::Short {
            self.omit(path, OmissionReason::Changed);
        }
        self.bytes_left -= size;
        self.exported.files += 1;
        self.exported.bytes += size;
        Ok(())
    }

    fn link(&mut self, at: At<'_>, stat: &Stat) -> io::Result<()> {
        match readlinkat(at.dir, at.name, Vec::new()) {
            Ok(target) => {
                let target = Path::new(OsStr::from_bytes(target.to_bytes()));
                self.exported.links += 1;
                self.archive.head(&Head {
                    path: at.path,
                    kind: Kind::Link { target },
                    mode: 0o700,
                    modified: modified(stat),
                })
            }
            // Gone, or exchanged for something else.
            Err(_) => Ok(()),
        }
    }

    fn directory(&mut self, path: &Path, stat: &Stat) -> io::Result<()> {
        self.exported.directories += 1;
        self.archive.head(&Head {
            path,
            kind: Kind::Directory,
            mode: 0o700,
            modified: modified(stat),
        })
    }
}

impl<W: Write> Visit for Export<'_, W> {
    fn entry(&mut self, at: At<'_>, stat: &Stat) -> ControlFlow<()> {
        let written = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if is_draft(at.name) => Ok(()),
            FileType::RegularFile => self.file(at),
            FileType::Directory => self.directory(at.path, stat),
            FileType::Symlink => self.link(at, stat),
            _ => {
                self.omit(at.path, OmissionReason::Special);
                Ok(())
            }
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn unread(&mut self, path: &Path, why: Unread) {
        let reason = match why {
            Unread::Mount => OmissionReason::Mount,
            Unread::TooDeep => OmissionReason::TooDeep,
            Unread::Failed => OmissionReason::Unreadable,
        };
        self.omit(path, reason);
    }
}

fn is_draft(name: &CStr) -> bool {
    name.to_str().is_ok_and(super::draft::is_draft)
}

/// What is exported of a person's directory.
const PARTS: [&str; 4] = [
    "workspace",
    "sessions",
    "sandbox-workspace",
    ".openclaw/profiles",
];

/// Omissions that are told one by one.
const OMISSIONS: usize = 1_000;
