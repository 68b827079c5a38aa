use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use memchr::memmem::Finder;

use super::{
    answer::{Answer, Reported},
    text::{delta_bytes, message_bytes},
};

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""usage""#));

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What an answer has told so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) id: Option<Arc<str>>,
    pub(super) model: Option<Arc<str>>,
    /// The last usage told: a provider that tells it more than once adds up.
    pub(super) usage: Option<Reported>,
    /// Bytes of generated text that went by.
    pub(super) text: u64,
    /// The provider broke off with an error in the answer itself.
    pub(super) failed: bool,
    /// The provider said that the stream is at its end.
    pub(super) done: bool,
}

// === impl Reading ===

impl Reading {
    /// Reads a whole answer. Of one that is cut off or is no JSON, all bytes count as text unless it can be told apart.
    pub(super) fn answer(&mut self, json: &[u8]) {
        let text = message_bytes(json);
        if let Some(answer) = Answer::read(json) {
            self.take(&answer);
            self.text += text.unwrap_or(0);
        } else {
            let text = text.or_else(|| delta_bytes(json));
            self.text += text.unwrap_or(json.trim_ascii().len() as u64);
        }
    }

    /// Reads an event of a stream; true for the one that only tells usage.
    ///
    /// The text of a delta is not parsed, only passed over. An event is parsed if it has none, tells usage, or comes
    /// before the model is known.
    pub(super) fn event(&mut self, event: &[u8]) -> bool {
        let text = delta_bytes(event);
        self.text += text.unwrap_or(0);
        if text.is_some() && self.model.is_some() && !tells_usage(event) {
            return false;
        }
        let data = data(event);
        if text.is_none() && data.is_empty() && !is_event(event) {
            self.answer(event);
            return false;
        }
        if data.trim_ascii() == b"[DONE]" {
            self.done = true;
            return false;
        }
        let Some(answer) = Answer::read(&data) else {
            return false;
        };
        self.take(&answer);
        answer.is_lone_usage()
    }

    fn take(&mut self, answer: &Answer<'_>) {
        if self.id.is_none() {
            self.id = answer.id();
        }
        if self.model.is_none() {
            self.model = answer.model();
        }
        self.usage = answer.usage().or(self.usage);
        self.failed |= answer.is_error();
    }
}

/// Whether an event names usage that is not `null`: with `include_usage`, every chunk but the last says `null`.
fn tells_usage(event: &[u8]) -> bool {
    USAGE.find_iter(event).any(|at| {
        let rest = event
            .get(at + USAGE.needle().len()..)
            .unwrap_or_default()
            .trim_ascii_start();
        let value = rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        value.is_some_and(|value| !value.starts_with(b"null"))
    })
}

/// Whether these are the lines of an event, and not what a provider sent in place of a stream.
fn is_event(lines: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 5] = [b":", b"data", b"event", b"id", b"retry"];
    let lines = lines.strip_prefix(BOM).unwrap_or(lines).trim_ascii_start();
    lines.is_empty() || BEGINNINGS.iter().any(|begins| lines.starts_with(begins))
}

/// The `data` lines of an event, joined (WHATWG HTML §9.2.6).
fn data(event: &[u8]) -> Cow<'_, [u8]> {
    let event = event.strip_prefix(BOM).unwrap_or(event);
    let mut lines = event
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .filter_map(|line| {
            let value = line.strip_prefix(b"data:")?;
            Some(value.strip_prefix(b" ").unwrap_or(value))
        });
    let first = lines.next().unwrap_or_default();
    lines.fold(Cow::Borrowed(first), |mut data, line| {
        let joined = data.to_mut();
        joined.push(b'\n');
        joined.extend_from_slice(line);
        data
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d6_57_joins_data_lines_and_passes_over_comments_and_fields() {
        let event = b": hi\r\nevent: x\r\ndata: {\"a\":\rdata:1}\nid: 4\ndata\n\n";
        assert_eq!(&*data(event), b"{\"a\":\n1}");
        assert_eq!(&*data(b"\xEF\xBB\xBFdata:x\n\n"), b"x");
        assert_eq!(&*data(b": only a comment\n\n"), b"");
    }

    #[test]
    fn usage_told_twice_is_the_later_one() {
        let mut reading = Reading::default();
        reading.event(br#"data: {"id":"a","model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#);
        reading.event(br#"data: {"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#);
        reading.event(br#"data: {"choices":[{"delta":{"content":"y"}}],"usage": null}"#);
        assert_eq!(reading.usage.unwrap().tokens.output, Some(2));
        assert_eq!(reading.text, 2);
    }

    #[test]
    fn usage_in_generated_text_is_text() {
        let mut reading = Reading {
            model: Some("m".into()),
            ..Reading::default()
        };
        let event = br#"data: {"choices":[{"delta":{"content":"{\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9}}"}}]}"#;
        assert!(!reading.event(event));
        assert_eq!(reading.usage, None);
        assert!(reading.text > 40);
    }

    #[test]
    fn an_error_event_is_a_failure() {
        let mut reading = Reading::default();
        reading.event(br#"data: {"error":{"message":"overloaded"}}"#);
        assert!(reading.failed);
    }
}
