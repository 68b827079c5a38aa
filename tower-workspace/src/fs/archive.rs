use std::{
    fmt,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// A tar archive that is being written, entry after entry, into whatever takes bytes.
///
/// It is of the GNU form: names of any length and bytes, files of any size. It holds a few KiB, however
/// much goes through it.
///
/// # Examples
///
/// ```
/// use std::time::SystemTime;
///
/// use tower_workspace::fs::Archive;
///
/// let mut archive = Archive::new(Vec::new());
/// archive.append("about.json", SystemTime::UNIX_EPOCH, b"{}")?;
/// let bytes = archive.finish()?;
/// assert_eq!(bytes.len() % 512, 0);
/// # std::io::Result::Ok(())
/// ```
pub struct Archive<W> {
    writer: W,
}

/// An entry before its content.
pub(super) struct Head<'a> {
    pub(super) path: &'a Path,
    pub(super) kind: Kind<'a>,
    /// Permissions of whose it is.
    pub(super) mode: u32,
    pub(super) modified: Option<SystemTime>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    File { size: u64 },
    Directory,
    Link { target: &'a Path },
}

/// How a file's content came through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Copied {
    Whole,
    /// There was less than announced; the rest is zeros.
    Short,
}

// === impl Archive ===

impl<W: Write> Archive<W> {
    /// An archive without entries.
    pub fn new(writer: W) -> Self {
        Self { writer }
    }

    /// Appends a file with this content.
    ///
    /// # Errors
    ///
    /// What the writer answers; the archive cannot be finished then.
    pub fn append(&mut self, name: &str, modified: SystemTime, content: &[u8]) -> io::Result<()> {
        let head = Head {
            path: Path::new(name),
            kind: Kind::File {
                size: content.len() as u64,
            },
            mode: 0o600,
            modified: Some(modified),
        };
        self.head(&head)?;
        self.writer.write_all(content)?;
        self.pad(content.len() as u64)
    }

    /// Ends the archive, and gives the writer back.
    ///
    /// # Errors
    ///
    /// What the writer answers.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.write_all(&[0; 2 * BLOCK])?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    pub(super) fn head(&mut self, head: &Head<'_>) -> io::Result<()> {
        let path = head.path.as_os_str().as_bytes();
        let mut name = path.to_vec();
        let (kind, size, target) = match head.kind {
            Kind::File { size } => (b'0', size, None),
            Kind::Directory => {
                name.push(b'/');
                (b'5', 0, None)
            }
            Kind::Link { target } => (b'2', 0, Some(target.as_os_str().as_bytes())),
        };
        if let Some(target) = target {
            self.long(b'K', target)?;
        }
        self.long(b'L', &name)?;
        let seconds = head
            .modified
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_secs());
        let mut block = Block::new();
        block.text(0, &name, NAME);
        block.octal(100, u64::from(head.mode & 0o700), 8);
        block.number(124, size);
        block.number(136, seconds);
        block.text(156, &[kind], 1);
        block.text(157, target.unwrap_or_default(), NAME);
        self.writer.write_all(block.sealed())
    }

    /// Copies exactly `size` bytes of content, whatever becomes of the file meanwhile.
    pub(super) fn content(&mut self, mut file: impl Read, size: u64) -> io::Result<Copied> {
        let mut buffer = vec![0; BUFFER];
        let (mut left, mut copied) = (size, Copied::Whole);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let Some(buffer) = buffer.get_mut(..most) else {
                break;
            };
            let mut length = 0;
            if copied == Copied::Whole {
                length = match file.read(buffer) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => 0,
                };
            }
            if length == 0 {
                // Shorter than it was, or unreadable.
                copied = Copied::Short;
                buffer.fill(0);
                length = most;
            }
            self.writer
                .write_all(buffer.get(..length).unwrap_or_default())?;
            left -= length as u64;
        }
        self.pad(size)?;
        Ok(copied)
    }

    /// Says a name that has no room in its field before the entry itself.
    fn long(&mut self, kind: u8, name: &[u8]) -> io::Result<()> {
        if name.len() <= NAME {
            return Ok(());
        }
        let size = name.len() as u64 + 1;
        let mut block = Block::new();
        block.text(0, b"././@LongLink", NAME);
        block.octal(100, 0, 8);
        block.number(124, size);
        block.number(136, 0);
        block.text(156, &[kind], 1);
        self.writer.write_all(block.sealed())?;
        self.writer.write_all(name)?;
        self.writer.write_all(&[0])?;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        match over {
            0 => Ok(()),
            over => {
                let zeros = [0; BLOCK];
                self.writer.write_all(zeros.get(over..).unwrap_or_default())
            }
        }
    }
}

impl<W> fmt::Debug for Archive<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

/// The header of an entry: fields at fixed places ("Basic Tar Format", GNU tar manual).
struct Block([u8; BLOCK]);

// === impl Block ===

impl Block {
    /// Nobody's, with what every header has.
    fn new() -> Self {
        let mut block = Self([0; BLOCK]);
        block.octal(108, 0, 8);
        block.octal(116, 0, 8);
        block.text(257, b"ustar  \0", 8);
        block
    }

    /// As much of `text` as there is room for.
    fn text(&mut self, at: usize, text: &[u8], room: usize) {
        let field = self.0.iter_mut().skip(at).take(room);
        field.zip(text).for_each(|(byte, c)| *byte = *c);
    }

    fn octal(&mut self, at: usize, number: u64, room: usize) {
        self.text(
            at,
            format!("{number:0width$o}", width = room - 1).as_bytes(),
            room,
        );
    }

    /// A number of twelve bytes: in base 256 where octal digits do not do.
    fn number(&mut self, at: usize, number: u64) {
        if number < 1 << 33 {
            return self.octal(at, number, 12);
        }
        self.text(at, &[0x80, 0, 0, 0], 4);
        self.text(at + 4, &number.to_be_bytes(), 8);
    }

    fn sealed(&mut self) -> &[u8] {
        // Its own field counts as blanks.
        self.text(148, b"        ", 8);
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.text(148, format!("{sum:06o}\0 ").as_bytes(), 8);
        &self.0
    }
}

const BLOCK: usize = 512;

/// Room for a name in a header.
const NAME: usize = 100;

const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_size_is_announced_as_it_is() {
        for (size, field) in [
            (0, *b"00000000000\0"),
            ((1 << 33) - 1, *b"77777777777\0"),
            (1 << 33, [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]),
            (
                u64::MAX,
                [0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
            ),
        ] {
            let mut block = Block::new();
            block.number(124, size);
            assert_eq!(block.0[124..136], field, "{size}");
        }
    }

    #[test]
    fn content_is_as_long_as_announced_whatever_the_file_has() {
        for (content, size, copied) in [
            (&b"grown"[..], 4, Copied::Whole),
            (b"whole", 5, Copied::Whole),
            (b"", 0, Copied::Whole),
            (b"cut", 5, Copied::Short),
            (b"", 70_000, Copied::Short),
        ] {
            let mut archive = Archive::new(Vec::new());
            assert_eq!(archive.content(content, size).unwrap(), copied);
            let length = usize::try_from(size).unwrap();
            assert_eq!(archive.writer.len(), length.next_multiple_of(BLOCK));
            let common = length.min(content.len());
            assert_eq!(archive.writer[..common], content[..common]);
            assert!(archive.writer[common..].iter().all(|byte| *byte == 0));
        }
    }
}
