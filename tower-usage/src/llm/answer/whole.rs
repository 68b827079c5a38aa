use bytes::Bytes;
use memchr::memrchr;

use super::reading::Reading;

/// A whole answer is kept up to this size to be read at its end; beyond, only what comes last is.
pub(super) const ANSWER_LIMIT: usize = 16 << 20;
/// How much of a larger answer's end is kept. Usage follows what was generated.
const TAIL_LIMIT: usize = 64 << 10;

/// A whole answer. One frame is kept as it is, several are copied together.
#[derive(Debug, Default)]
pub(super) struct Whole {
    first: Bytes,
    more: Vec<u8>,
    /// The end of an answer that is too large to be kept.
    tail: Option<Vec<u8>>,
}

// === impl Whole ===

impl Whole {
    pub(super) fn push(&mut self, frame: &Bytes, reading: &mut Reading) {
        if let Some(tail) = &mut self.tail {
            reading.text += frame.len() as u64;
            push_last(tail, frame);
        } else if self.bytes().len() + frame.len() > ANSWER_LIMIT {
            reading.text += (self.bytes().len() + frame.len()) as u64;
            let mut tail = Vec::new();
            push_last(&mut tail, self.bytes());
            push_last(&mut tail, frame);
            *self = Self {
                tail: Some(tail),
                ..Self::default()
            };
        } else if self.bytes().is_empty() {
            self.first = frame.clone();
        } else {
            self.more
                .extend_from_slice(&std::mem::take(&mut self.first));
            self.more.extend_from_slice(frame);
        }
    }

    pub(super) fn end(&mut self, reading: &mut Reading) {
        match &self.tail {
            None => reading.answer(self.bytes()),
            Some(tail) => {
                if let Some(object) = last_members(tail) {
                    reading.members(&object);
                }
            }
        }
        *self = Self::default();
    }

    fn bytes(&self) -> &[u8] {
        if self.more.is_empty() {
            &self.first
        } else {
            &self.more
        }
    }
}

/// Appends to what is kept of the end.
fn push_last(tail: &mut Vec<u8>, bytes: &[u8]) {
    let last = bytes.len().saturating_sub(TAIL_LIMIT);
    tail.extend_from_slice(bytes.get(last..).unwrap_or_default());
    // Not each time, since what is left has to be moved.
    if tail.len() > 2 * TAIL_LIMIT {
        tail.drain(..tail.len() - TAIL_LIMIT);
    }
}

/// An object of the members that follow the last array of an object that ends here.
fn last_members(tail: &[u8]) -> Option<Vec<u8>> {
    let array = memrchr(b']', tail)?;
    let members = tail.get(array + 1..)?.trim_ascii_start();
    Some([b"{", members.strip_prefix(b",")?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Api;

    fn read(api: Api, begin: &str, end: &str, size: usize) -> Reading {
        let json = [begin, &"0.5,".repeat(5 << 20), end].concat();
        let (mut whole, mut reading) = (Whole::default(), Reading::new(api));
        for frame in json.as_bytes().chunks(size) {
            whole.push(&Bytes::copy_from_slice(frame), &mut reading);
        }
        whole.end(&mut reading);
        reading
    }

    #[test]
    fn of_an_answer_that_is_too_large_the_usage_is_read() {
        for size in [999, 100_000, 30 << 20] {
            let (begin, end) = (
                r#"{"object":"list","data":[{"embedding":["#,
                r#"0.5]}], "model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            );
            let reading = read(Api::Embeddings, begin, end, size);
            assert_eq!(reading.model.as_deref(), Some("m"));
            let tokens = reading.usage.unwrap().tokens();
            assert_eq!((tokens.input, tokens.output), (Some(8), Some(0)), "{size}");
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_estimated() {
        for end in [
            r#"0],"usage":{"prompt_tokens":8,"#,
            r#"0],"usage":{"prompt_tokens":8},"note":"a]b"}"#,
            "0]}",
            "0",
        ] {
            let reading = read(Api::ChatCompletions, r#"{"choices":["#, end, 100_000);
            assert_eq!(reading.usage, None, "{end}");
            assert!(reading.text > 20 << 20);
        }
    }
}
