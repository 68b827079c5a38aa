use std::{
    fmt,
    io::{self, Write},
};

use brotli_decompressor::DecompressorWriter;
use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};

use super::whole::ANSWER_LIMIT;

/// What an answer may be decoded to: a large one, twice.
const DECODED_LIMIT: usize = 2 * ANSWER_LIMIT;

/// What a zstd stream may ask to be remembered, as a power of two: 8 MiB, the least that HTTP requires of a recipient
/// and the most it allows a sender (RFC 9659 §3).
const ZSTD_WINDOW_LOG: u32 = 23;

/// Pieces in which brotli hands out what it has decoded.
const BROTLI_PIECE: usize = 16 << 10;

/// Decodes an answer as it goes by.
pub(super) struct Decoder {
    codec: Codec,
}

/// How far the decoding of a frame went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Went {
    /// All of it.
    Well,
    /// Up to something that cannot be decoded.
    Corrupt,
    /// Up to where the answer becomes too large.
    TooLarge,
}

/// The content codings of HTTP (RFC 9110 §8.4.1, RFC 7932, RFC 8878).
enum Codec {
    Gzip(Box<MultiGzDecoder<Decoded>>),
    /// `deflate` is the zlib format, which some servers leave out: its first byte tells.
    Deflate,
    Zlib(Box<ZlibDecoder<Decoded>>),
    RawDeflate(Box<DeflateDecoder<Decoded>>),
    Brotli(Box<DecompressorWriter<Decoded>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Decoded>>),
}

/// What was decoded and not taken yet.
struct Decoded {
    bytes: Vec<u8>,
    /// How much more may come.
    room: usize,
}

// === impl Decoder ===

impl Decoder {
    /// One for an answer with these headers, if there is one coding, and a known one.
    pub(super) fn new(headers: &HeaderMap) -> Option<Self> {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(coding), None) = (codings.next(), codings.next()) else {
            return None;
        };
        let is = |name: &str| coding.as_bytes().eq_ignore_ascii_case(name.as_bytes());
        let codec = if is("gzip") || is("x-gzip") {
            Codec::Gzip(Box::new(MultiGzDecoder::new(Decoded::new())))
        } else if is("deflate") {
            Codec::Deflate
        } else if is("br") {
            Codec::Brotli(Box::new(DecompressorWriter::new(
                Decoded::new(),
                BROTLI_PIECE,
            )))
        } else if is("zstd") {
            let mut zstd = zstd::stream::write::Decoder::new(Decoded::new()).ok()?;
            zstd.window_log_max(ZSTD_WINDOW_LOG).ok()?;
            Codec::Zstd(Box::new(zstd))
        } else {
            return None;
        };
        Some(Self { codec })
    }

    /// What a frame decodes to. Nothing more may come after a frame that did not go well.
    pub(super) fn decode(&mut self, frame: &[u8]) -> (Bytes, Went) {
        let Some(first) = frame.first() else {
            return (Bytes::new(), Went::Well);
        };
        if let Codec::Deflate = self.codec {
            self.codec = Codec::deflate(*first);
        }
        let written = self.codec.write(frame);
        let Some(decoded) = self.codec.decoded() else {
            return (Bytes::new(), Went::Well);
        };
        let went = match written {
            Ok(()) => Went::Well,
            Err(_) if decoded.room == 0 => Went::TooLarge,
            Err(_) => Went::Corrupt,
        };
        (std::mem::take(&mut decoded.bytes).into(), went)
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

// === impl Codec ===

impl Codec {
    fn deflate(first: u8) -> Self {
        // RFC 1950 §2.2: compression method 8 in the low bits, which no block of RFC 1951 begins with in practice.
        if first & 0x0f == 8 {
            Self::Zlib(Box::new(ZlibDecoder::new(Decoded::new())))
        } else {
            Self::RawDeflate(Box::new(DeflateDecoder::new(Decoded::new())))
        }
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let writer: &mut dyn Write = match self {
            Self::Gzip(writer) => writer,
            Self::Deflate => return Ok(()),
            Self::Zlib(writer) => writer,
            Self::RawDeflate(writer) => writer,
            Self::Brotli(writer) => writer,
            Self::Zstd(writer) => writer,
        };
        writer.write_all(frame)?;
        // An event must be read when it is there, not when the next one is.
        writer.flush()
    }

    fn decoded(&mut self) -> Option<&mut Decoded> {
        Some(match self {
            Self::Gzip(writer) => writer.get_mut(),
            Self::Deflate => return None,
            Self::Zlib(writer) => writer.get_mut(),
            Self::RawDeflate(writer) => writer.get_mut(),
            Self::Brotli(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
        })
    }
}

// === impl Decoded ===

impl Decoded {
    const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            room: DECODED_LIMIT,
        }
    }
}

impl Write for Decoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(room) = self.room.checked_sub(bytes.len()) else {
            self.room = 0;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.room = room;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
