use std::sync::LazyLock;

use memchr::{memchr2, memchr3, memmem::Finder};

static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""delta""#));
static MESSAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""message""#));

/// Bytes of text that a chunk of a stream adds; `None` if it has no delta.
pub(super) fn delta_bytes(chunk: &[u8]) -> Option<u64> {
    text_bytes(chunk, &DELTA)
}

/// Bytes of text in the messages of an answer, or of its beginning; `None` if it has no message.
pub(super) fn message_bytes(answer: &[u8]) -> Option<u64> {
    text_bytes(answer, &MESSAGE)
}

/// Adds up the string values of the objects that are called so. Not a parser: what it reads may be cut off anywhere,
/// and is an estimate at best. The name cannot be found within a string, where its quotes are escaped.
fn text_bytes(json: &[u8], name: &Finder<'_>) -> Option<u64> {
    let mut sum = None;
    let mut rest = json;
    while let Some(at) = name.find(rest) {
        rest = rest
            .get(at + name.needle().len()..)
            .unwrap_or_default()
            .trim_ascii_start();
        let object = rest
            .strip_prefix(b":")
            .map(<[u8]>::trim_ascii_start)
            .and_then(|rest| rest.strip_prefix(b"{"));
        if let Some(object) = object {
            let (text, left) = object_text(object);
            sum = Some(sum.unwrap_or(0) + text);
            rest = left;
        }
    }
    sum
}

/// Bytes of string values up to the end of an object just opened, and what follows it.
fn object_text(mut rest: &[u8]) -> (u64, &[u8]) {
    let (mut text, mut depth) = (0, 1_u32);
    while let Some((found, after)) = split_at_any(rest) {
        rest = after;
        match found {
            b'{' => depth = depth.saturating_add(1),
            b'}' => depth -= 1,
            _ => {
                let (len, after) = string(rest);
                let is_name = after.trim_ascii_start().starts_with(b":");
                text += if is_name { 0 } else { len };
                rest = after;
            }
        }
        if depth == 0 {
            return (text, rest);
        }
    }
    (text, &[])
}

/// The next quote or brace, and what follows it.
fn split_at_any(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let at = memchr3(b'"', b'{', b'}', bytes)?;
    Some((*bytes.get(at)?, bytes.get(at + 1..)?))
}

/// The length of a string just opened, and what follows it.
fn string(bytes: &[u8]) -> (u64, &[u8]) {
    let mut at = 0;
    while let Some(n) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += n;
        if bytes.get(at) == Some(&b'"') {
            return (at as u64, bytes.get(at + 1..).unwrap_or_default());
        }
        at += 2;
    }
    (bytes.len() as u64, &[])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_the_text_of_every_delta() {
        for (chunk, bytes) in [
            (
                r#"{"choices":[{"delta":{"content":"Hello"},"finish_reason":null}]}"#,
                Some(5),
            ),
            (
                r#"{"choices":[{"delta" : {"content" : "a\"b{"}},{"delta":{"refusal":"xy"}}]}"#,
                Some(7),
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#,
                Some(2),
            ),
            (r#"{"choices":[{"delta":{}}]}"#, Some(0)),
            (r#"{"choices":[{"delta":{"content":"cut of"#, Some(6)),
            (r#"{"choices":[],"usage":{}}"#, None),
            (r#"{"choices":[{"delta":null}]}"#, None),
            (r#"{"x":"\"delta\":{\"content\":\"quoted\"}"}"#, None),
        ] {
            assert_eq!(delta_bytes(chunk.as_bytes()), bytes, "{chunk}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(json in "(\"delta\"|:|\\{|\\}|\"|\\\\|[a-z ]){0,40}") {
            prop_assert!(delta_bytes(json.as_bytes()).unwrap_or(0) <= json.len() as u64);
        }
    }
}
