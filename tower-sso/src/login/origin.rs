use std::fmt;

use http::HeaderValue;

use crate::jwt::{Transport, parse_address};

/// An origin (RFC 6454) in its one canonical spelling, such as `https://app.example.com`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Origin(Box<str>);

// === impl Origin ===

impl Origin {
    /// Reads an `https` origin, or an `http` one of this machine, as a browser spells it: in lower case,
    /// without the port its scheme has anyway, without a path.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (uri, transport) = parse_address(text)?;
        let authority = uri.authority()?;
        let default_port = match transport {
            Transport::Tls => ":443",
            Transport::Loopback => ":80",
        };
        let is_canonical = text == format!("{}://{authority}", uri.scheme_str()?)
            && !text.ends_with(':')
            && !text.ends_with(default_port)
            && !text.ends_with('.')
            && text.bytes().all(is_fit);
        is_canonical.then(|| Self(text.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an `Origin` header names it.
    pub(super) fn is(&self, header: &HeaderValue) -> bool {
        header.as_bytes() == self.0.as_bytes()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn is_fit(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':' | b'/' | b'[' | b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_an_origin() {
        for text in [
            "https://app.example.com",
            "https://app.example.com:8443",
            "http://localhost:3000",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "https://xn--bcher-kva.example",
        ] {
            assert!(Origin::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            "null",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/a",
            "https://app.example.com?a",
            "https://app.example.com#a",
            "https://a@app.example.com",
            "https://App.example.com",
            "HTTPS://app.example.com",
            "https://app.example.com:443",
            "https://app.example.com:",
            "https://app.example.com.",
            "http://app.example.com",
            "http://localhost:80",
            "https://bücher.example",
            "https://a_b.example",
            "ftp://localhost",
        ] {
            assert!(Origin::parse(text).is_none(), "{text}");
        }
    }
}
