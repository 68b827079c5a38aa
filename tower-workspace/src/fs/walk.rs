//! A walk through what a person has made, entry by entry.

use std::{
    ffi::{CStr, OsStr},
    ops::ControlFlow,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::{
    fs::{AtFlags, Dir as Entries, FileType, OFlags, Stat, statat},
    io::Errno,
};

use super::{Bounds, open::open_within};

/// An entry where it was found.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// The directory it is in, held open.
    pub(super) dir: &'a OwnedFd,
    pub(super) name: &'a CStr,
    /// From the person's directory.
    pub(super) path: &'a Path,
}

/// Why something was not looked into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unread {
    /// Another file system is mounted there.
    Mount,
    /// It lies too deep.
    TooDeep,
    /// The system refuses to read it.
    Failed,
}

pub(super) trait Visit {
    /// An entry, a directory before what is in it.
    fn entry(&mut self, at: At<'_>, stat: &Stat) -> ControlFlow<()>;

    fn unread(&mut self, path: &Path, why: Unread);
}

/// What is left of the bounds; several parts of a tree are walked under one.
pub(super) struct Walk {
    bounds: Bounds,
    entries: u64,
    end: Option<Instant>,
    truncated: bool,
}

// === impl Walk ===

impl Walk {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: 0,
            end: bounds
                .time
                .and_then(|time| Instant::now().checked_add(time)),
            truncated: false,
        }
    }

    /// Whether something was left out for the bounds.
    pub(super) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Walks through `dir`, of which `path` says where it is.
    pub(super) fn through(
        &mut self,
        dir: &OwnedFd,
        path: &Path,
        visit: &mut impl Visit,
    ) -> ControlFlow<()> {
        self.descend(dir, &mut path.to_owned(), 1, visit)
    }

    fn descend(
        &mut self,
        dir: &OwnedFd,
        path: &mut PathBuf,
        depth: usize,
        visit: &mut impl Visit,
    ) -> ControlFlow<()> {
        let Ok(entries) = Entries::read_from(dir) else {
            visit.unread(path, Unread::Failed);
            return ControlFlow::Continue(());
        };
        for entry in entries {
            let Ok(entry) = entry else {
                visit.unread(path, Unread::Failed);
                break;
            };
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            self.count()?;
            path.push(OsStr::from_bytes(name.to_bytes()));
            let flow = self.look_at(At { dir, name, path }, depth, visit);
            path.pop();
            flow?;
        }
        ControlFlow::Continue(())
    }

    fn look_at(&mut self, at: At<'_>, depth: usize, visit: &mut impl Visit) -> ControlFlow<()> {
        let stat = match statat(at.dir, at.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It is gone already.
            Err(Errno::NOENT) => return ControlFlow::Continue(()),
            Err(_) => {
                visit.unread(at.path, Unread::Failed);
                return ControlFlow::Continue(());
            }
        };
        visit.entry(at, &stat)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return ControlFlow::Continue(());
        }
        if depth >= self.bounds.depth {
            self.truncated = true;
            visit.unread(at.path, Unread::TooDeep);
            return ControlFlow::Continue(());
        }
        match open_within(at.dir, at.name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(dir) => self.descend(&dir, &mut at.path.to_owned(), depth + 1, visit),
            Err(errno) => {
                match errno {
                    Errno::XDEV => visit.unread(at.path, Unread::Mount),
                    // Gone, or exchanged for something else.
                    Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {}
                    _ => visit.unread(at.path, Unread::Failed),
                }
                ControlFlow::Continue(())
            }
        }
    }

    fn count(&mut self) -> ControlFlow<()> {
        let is_late = self.end.is_some_and(|end| Instant::now() >= end);
        if self.entries >= self.bounds.entries || is_late {
            self.truncated = true;
            return ControlFlow::Break(());
        }
        self.entries += 1;
        ControlFlow::Continue(())
    }
}
