use std::sync::LazyLock;

use memchr::{memchr2, memmem::Finder};

use crate::llm::Api;

static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""delta""#));
static MESSAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""message""#));
static OUTPUT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""output""#));
static CONTENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""content""#));

/// Members whose text no model generated.
const NOT_TEXT: [&[u8]; 11] = [
    b"type",
    b"role",
    b"id",
    b"call_id",
    b"item_id",
    b"status",
    b"signature",
    b"encrypted_content",
    b"stop_reason",
    b"stop_sequence",
    b"finish_reason",
];

/// Bytes of text that an event of a stream adds; `None` if it has no delta.
pub(super) fn delta_bytes(event: &[u8]) -> Option<u64> {
    text_bytes(event, &DELTA)
}

/// Bytes of text in a whole answer, or in its beginning; `None` if it has none.
pub(super) fn answer_bytes(api: Api, answer: &[u8]) -> Option<u64> {
    let name = match api {
        Api::ChatCompletions => &MESSAGE,
        Api::Responses => &OUTPUT,
        Api::Messages => &CONTENT,
        // Numbers, which count as nothing.
        Api::Embeddings => return Some(0),
    };
    text_bytes(answer, name)
}

/// Adds up the strings in the members that are called so. Not a parser: what it reads may be cut off anywhere, and is
/// an estimate at best. The name cannot be found within a string, where its quotes are escaped.
fn text_bytes(json: &[u8], name: &Finder<'_>) -> Option<u64> {
    let mut sum = None;
    let mut rest = json;
    while let Some(at) = name.find(rest) {
        rest = rest
            .get(at + name.needle().len()..)
            .unwrap_or_default()
            .trim_ascii_start();
        let Some(value) = rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start) else {
            continue;
        };
        let (text, left) = match value.split_first() {
            Some((b'"', inner)) => string_text(inner),
            Some((b'{' | b'[', inner)) => inner_text(inner),
            _ => continue,
        };
        sum = Some(sum.unwrap_or(0) + text);
        rest = left;
    }
    sum
}

/// Bytes of the strings up to the end of an object or array just opened, and what follows it.
fn inner_text(mut rest: &[u8]) -> (u64, &[u8]) {
    let (mut sum, mut depth, mut counts) = (0, 1_u32, true);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                counts = true;
            }
            b'}' | b']' => depth -= 1,
            b'"' => {
                let (text, after) = string(rest);
                let is_name = after.trim_ascii_start().starts_with(b":");
                sum += if counts && !is_name {
                    text.len() as u64
                } else {
                    0
                };
                counts = !is_name || !NOT_TEXT.contains(&text);
                rest = after;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    (sum, rest)
}

/// Bytes of a string just opened, and what follows it.
fn string_text(bytes: &[u8]) -> (u64, &[u8]) {
    let (text, rest) = string(bytes);
    (text.len() as u64, rest)
}

/// A string just opened, and what follows it.
fn string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while let Some(n) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += n;
        if bytes.get(at) == Some(&b'"') {
            let (text, rest) = bytes.split_at(at);
            return (text, rest.get(1..).unwrap_or_default());
        }
        at += 2;
    }
    (bytes, &[])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_the_text_of_every_delta() {
        for (event, bytes) in [
            // Chat completions.
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":"Hello"},"finish_reason":null}]}"#,
                Some(5),
            ),
            (
                r#"{"choices":[{"delta" : {"content" : "a\"b{"}},{"delta":{"refusal":"xy"}}]}"#,
                Some(7),
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]}}]}"#,
                Some(3),
            ),
            (r#"{"choices":[{"delta":{}}]}"#, Some(0)),
            (r#"{"choices":[{"delta":{"content":"cut of"#, Some(6)),
            (r#"{"choices":[],"usage":{}}"#, None),
            (r#"{"choices":[{"delta":null}]}"#, None),
            (r#"{"x":"\"delta\":{\"content\":\"quoted\"}"}"#, None),
            // Responses.
            (
                r#"{"type":"response.output_text.delta","item_id":"msg_1","delta":"In ]","logprobs":[],"obfuscation":"xxxx"}"#,
                Some(4),
            ),
            (
                r#"{"type":"response.function_call_arguments.delta","delta":"{\"a"}"#,
                Some(4),
            ),
            (r#"{"type":"response.output_text.done","text":"In"}"#, None),
            // Messages.
            (
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}"#,
                Some(5),
            ),
            (
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"lo"}}"#,
                Some(5),
            ),
            (
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}"#,
                Some(2),
            ),
            (
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}"#,
                Some(0),
            ),
            (
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null}}"#,
                Some(0),
            ),
        ] {
            assert_eq!(delta_bytes(event.as_bytes()), bytes, "{event}");
        }
    }

    #[test]
    fn counts_the_text_of_whole_answers() {
        for (api, json, bytes) in [
            (
                Api::ChatCompletions,
                r#"{"id":"chatcmpl-1","choices":[{"message":{"role":"assistant","content":"Hello"}},{"message":{"content":null}}]}"#,
                Some(5),
            ),
            (
                Api::Responses,
                r#"{"instructions":"long","output":[{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm"}],"encrypted_content":"gAAA"},
                    {"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[]}]},
                    {"type":"function_call","call_id":"c","name":"f","arguments":"{}"}],"tools":[{"description":"long"}]}"#,
                Some(10),
            ),
            (
                Api::Messages,
                r#"{"id":"msg_1","type":"message","content":[{"type":"thinking","thinking":"Hm","signature":"EqQB"},{"type":"text","text":"Hello"},
                    {"type":"tool_use","id":"t","name":"f","input":{"a":"xyz"}}],"stop_reason":"tool_use"}"#,
                Some(11),
            ),
            (
                Api::Messages,
                r#"{"content":[{"type":"text","text":"cut of"#,
                Some(6),
            ),
            (Api::Messages, "{}", None),
            (
                Api::Embeddings,
                r#"{"data":[{"embedding":"AAAA"}]}"#,
                Some(0),
            ),
        ] {
            assert_eq!(answer_bytes(api, json.as_bytes()), bytes, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(json in "(\"delta\"|\"content\"|\"type\"|:|,|\\{|\\}|\\[|\\]|\"|\\\\|[a-z ]){0,40}") {
            prop_assert!(delta_bytes(json.as_bytes()).unwrap_or(0) <= json.len() as u64);
            prop_assert!(answer_bytes(Api::Messages, json.as_bytes()).unwrap_or(0) <= json.len() as u64);
        }
    }
}
