use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Where a span is in its trace, as W3C Trace Context has it (Level 1, §3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceParent {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) is_sampled: bool,
}

/// A text that is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotATraceParent;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

// === impl TraceParent ===

impl TraceParent {
    /// What a request says of the trace that it is part of. Of two nothing is believed.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then(|| value.parse().ok())?
    }

    /// Says in a request what trace it is part of.
    pub fn put(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().unwrap_or_default();
        let (version, trace, span, flags) = (part(), part(), part(), part());
        let [version] = hex(version).ok_or(NotATraceParent)?;
        let [flags] = hex(flags).ok_or(NotATraceParent)?;
        let (trace, span) = (hex(trace), hex(span));
        let (trace, span) = trace.zip(span).ok_or(NotATraceParent)?;
        // A later version may say more behind that; this one does not, and 255 is none.
        let is_over = parts.next().is_none();
        if version == u8::MAX || (version == 0 && !is_over) || trace == [0; 16] || span == [0; 8] {
            return Err(NotATraceParent);
        }
        Ok(Self {
            trace,
            span,
            is_sampled: flags & 1 == 1,
        })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (
            u128::from_be_bytes(self.trace),
            u64::from_be_bytes(self.span),
        );
        write!(
            f,
            "00-{trace:032x}-{span:016x}-0{}",
            u8::from(self.is_sampled)
        )
    }
}

/// Bytes from as many lower-case digits as they have.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair.first_chunk()?;
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let parent: TraceParent = GOOD.parse().unwrap();
        assert!(parent.is_sampled);
        assert_eq!(parent.to_string(), GOOD);
        let mut headers = HeaderMap::new();
        parent.put(&mut headers);
        assert_eq!(TraceParent::of(&headers), Some(parent));
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(TraceParent::of(&headers), None, "two");
        let later = GOOD.replacen("00", "cc", 1) + "-what-the-future-will-be";
        assert!(later.parse::<TraceParent>().is_ok());
    }

    #[test]
    fn anything_else_is_no_trace() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-0b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319\u{e9}-b7ad6b7169203331-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(NotATraceParent), "{text}");
        }
    }
}
