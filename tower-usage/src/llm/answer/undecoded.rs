use bytes::Bytes;
use http::HeaderMap;

/// Without the feature `decompression` there is none.
#[derive(Debug)]
pub(super) enum Decoder {}

/// See there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(dead_code, reason = "nothing is decoded")]
pub(super) enum Went {
    Well,
    Corrupt,
    TooLarge,
}

// === impl Decoder ===

impl Decoder {
    pub(super) const fn new(_: &HeaderMap) -> Option<Self> {
        None
    }

    pub(super) const fn decode(&mut self, _: &[u8]) -> (Bytes, Went) {
        match *self {}
    }
}
