//! A disk whose power can be cut, or that is full, for a program that a test starts.
//!
//! The program is made to note what it overwrites, by a library that is preloaded into it (`storage/unsynced.c`). Killed, it
//! has lost nothing yet: the system has what it wrote. [`Storage::cut`] then takes back what it has not synced.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::{Error, Result};

/// The library's source.
const SOURCE: &str = include_str!("../storage/unsynced.c");

/// So much is written at a time or not: the page of a disk's cache.
const PAGE: usize = 4096;

/// Kinds of the log's records, as in `storage/unsynced.c`.
const WRITTEN: u32 = 1;
const SYNCED: u32 = 2;
const CREATED: u32 = 3;
const UNLINKED: u32 = 4;

/// The files below a directory, of which a program has what it synced and nothing else.
#[derive(Debug)]
pub struct Storage {
    dir: PathBuf,
    library: PathBuf,
    log: PathBuf,
    fault: PathBuf,
}

/// What goes wrong on a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing more can be written: it is full.
    Full,
    /// Nothing can be written, and no file opened for writing: it was mounted anew, read-only.
    ReadOnly,
    /// What was written cannot be synced.
    Unsyncable,
}

/// What a cut took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Cut {
    /// Writes that were not synced.
    pub writes: usize,
    /// Pages that were taken back.
    pub lost: usize,
    /// Pages that had been written all the same, in whatever order the disk chose.
    pub kept: usize,
    /// Files whose names were lost.
    pub names: usize,
}

/// What was there before a write.
#[derive(Debug)]
struct Before {
    /// Where that is noted in the log.
    at: u64,
    offset: u64,
    size: u64,
    bytes: Vec<u8>,
}

// === impl Storage ===

impl Storage {
    /// Looks after the files below `dir`; what it needs itself goes to `scratch`, which must not be there below.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] without a C compiler called `cc`, [`Error::Unexpected`] with what it said, [`Error::File`].
    pub fn new(dir: &Path, scratch: &Path) -> Result<Self> {
        let file = |path: &Path| {
            let path = path.to_owned();
            |source| Error::File { path, source }
        };
        // As the system names the files that are open.
        let dir = fs::canonicalize(dir).map_err(file(dir))?;
        let (source, library) = (scratch.join("unsynced.c"), scratch.join("unsynced.so"));
        fs::write(&source, SOURCE).map_err(file(&source))?;
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"]);
        let output = cc.output().map_err(|source| Error::Run {
            program: "cc, a C compiler (Debian package: gcc)".to_owned(),
            source,
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::unexpected("compilation", said));
        }
        Ok(Self {
            dir,
            library,
            log: scratch.join("unsynced.log"),
            fault: scratch.join("unsynced.fault"),
        })
    }

    /// The environment of the program.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let env = [
            ("LD_PRELOAD", &self.library),
            ("UNSYNCED_DIR", &self.dir),
            ("UNSYNCED_LOG", &self.log),
            ("UNSYNCED_FAULT", &self.fault),
        ];
        let text = |(name, path): (&str, &PathBuf)| (name.to_owned(), path.display().to_string());
        env.map(text).into()
    }

    /// From now on, what the disk does wrong.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn set(&self, fault: Option<Fault>) -> Result<()> {
        let text = match fault {
            None => "",
            Some(Fault::Full) => "ENOSPC",
            Some(Fault::ReadOnly) => "EROFS",
            Some(Fault::Unsyncable) => "EIO",
        };
        // Moved, so that the program never reads half of it.
        let draft = self.fault.with_extension("draft");
        let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &self.fault));
        written.map_err(|source| self.failed(&self.fault, source))
    }

    /// Cuts the power, once the program was killed: takes back what it has not synced, but the pages that `keep` says the disk
    /// had written already.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn cut(&self, mut keep: impl FnMut() -> bool) -> Result<Cut> {
        let (unsynced, unnamed) = self.read()?;
        let mut cut = Cut::default();
        for (path, befores) in unsynced {
            cut.writes += befores.len();
            let undone = undo(&path, befores, &mut keep, &mut cut);
            undone.map_err(|source| self.failed(&path, source))?;
        }
        for path in unnamed.into_keys() {
            cut.names += usize::from(fs::remove_file(path).is_ok());
        }
        // Memory that is mapped is gone too.
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with("-shm") {
                let _ = fs::remove_file(entry.path());
            }
        }
        match fs::remove_file(&self.log) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(self.failed(&self.log, source))
            }
            _ => Ok(cut),
        }
    }

    /// What was not synced, by file and in order, and the files whose names were not.
    #[expect(clippy::type_complexity, reason = "used once")]
    fn read(&self) -> Result<(BTreeMap<PathBuf, Vec<Before>>, BTreeMap<PathBuf, u64>)> {
        let log = match fs::read(&self.log) {
            Ok(log) => log,
            Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(self.failed(&self.log, source)),
        };
        let (mut unsynced, mut unnamed) = (BTreeMap::<_, Vec<Before>>::new(), BTreeMap::new());
        let mut rest = log.as_slice();
        // The last record may be a part of one, of a write that was not done then.
        while let Some((kind, path, before)) = record(&log, &mut rest) {
            match kind {
                WRITTEN => unsynced.entry(path).or_default().push(before),
                SYNCED => {
                    let until = before.offset;
                    unnamed.retain(|name: &PathBuf, at: &mut u64| {
                        name.parent() != Some(&*path) || *at >= until
                    });
                    if let Some(befores) = unsynced.get_mut(&path) {
                        befores.retain(|before| before.at >= until);
                    }
                }
                CREATED => {
                    unnamed.insert(path, before.at);
                }
                UNLINKED => {
                    unnamed.remove(&path);
                    unsynced.remove(&path);
                }
                kind => return Err(Error::unexpected("record", kind.to_string())),
            }
        }
        Ok((unsynced, unnamed))
    }

    fn failed(&self, path: &Path, source: io::Error) -> Error {
        Error::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// Takes the next record off the log.
fn record(log: &[u8], rest: &mut &[u8]) -> Option<(u32, PathBuf, Before)> {
    let at = (log.len() - rest.len()) as u64;
    let (head, mut tail) = rest.split_at_checked(32)?;
    let number = |at: usize| {
        let bytes = head.get(at..at + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    let short = |at: usize| {
        let bytes = head.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let (kind, path_length) = (short(0)?, usize::try_from(short(4)?).ok()?);
    let (offset, size, length) = (number(8)?, number(16)?, usize::try_from(number(24)?).ok()?);
    let path;
    (path, tail) = tail.split_at_checked(path_length)?;
    let bytes;
    (bytes, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    let path = PathBuf::from(String::from_utf8_lossy(path).into_owned());
    let bytes = bytes.to_vec();
    Some((
        kind,
        path,
        Before {
            at,
            offset,
            size,
            bytes,
        },
    ))
}

/// Takes writes to a file back, but for some pages.
fn undo(
    path: &Path,
    befores: Vec<Before>,
    keep: &mut impl FnMut() -> bool,
    cut: &mut Cut,
) -> io::Result<()> {
    let written = match fs::read(path) {
        Ok(written) => written,
        // It has another name, or none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut synced = written.clone();
    for before in befores.into_iter().rev() {
        let size = |size: u64| usize::try_from(size).map_err(io::Error::other);
        synced.resize(size(before.size)?, 0);
        let (from, length) = (size(before.offset)?, before.bytes.len());
        if let Some(place) = synced.get_mut(from..from.saturating_add(length)) {
            place.copy_from_slice(&before.bytes);
        }
    }
    let mut left = Vec::with_capacity(synced.len().max(written.len()));
    let mut at = 0;
    while at < synced.len().max(written.len()) {
        let page = |of: &[u8]| {
            let until = of.len().min(at + PAGE);
            of.get(at.min(until)..until).unwrap_or_default().to_vec()
        };
        let (old, new) = (page(&synced), page(&written));
        let is_kept = old != new && keep();
        cut.kept += usize::from(is_kept);
        cut.lost += usize::from(old != new && !is_kept);
        let page = if is_kept { new } else { old };
        if !page.is_empty() {
            // A page that was kept behind one that was not: between them there is nothing.
            left.resize(at, 0);
            left.extend(page);
        }
        at += PAGE;
    }
    fs::write(path, left)
}
