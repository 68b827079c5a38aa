use std::fmt;

/// Longer names of errors are not taken.
const LIMIT: usize = 64;

/// A provider's own name for what was wrong: so few and such characters that it is no prompt and needs no escaping.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ErrorName(Box<str>);

// === impl ErrorName ===

impl ErrorName {
    pub(super) fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let is_name = !text.is_empty() && text.len() <= LIMIT && text.bytes().all(plain);
        is_name.then(|| Self(text.into()))
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
