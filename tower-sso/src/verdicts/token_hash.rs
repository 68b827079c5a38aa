use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 of a whole token.
///
/// A part of the token will not do: whoever knows a part could ride on another's verdict.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(crate) struct TokenHash([u8; 32]);

// === impl TokenHash ===

impl TokenHash {
    pub(crate) fn new(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}
