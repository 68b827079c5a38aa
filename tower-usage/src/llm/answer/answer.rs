use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{TokenCounts, llm::name::name};

/// A larger count is not believed: no model reads or writes a thousandth of it in a call.
const MOST_TOKENS: u64 = 1_000_000_000;

/// What a whole answer or one chunk of a stream says about itself.
///
/// Members are kept raw and read one by one, so that an odd one does not hide the others.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// `usage` of OpenAI's API reference ("The chat completion object").
#[derive(Deserialize)]
struct Usage<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct PromptDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write_tokens: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct CompletionDetails<'a> {
    #[serde(borrow)]
    reasoning_tokens: Option<&'a RawValue>,
}

/// What a provider said about tokens.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Reported {
    pub(super) tokens: TokenCounts,
    /// The classes contradict each other.
    pub(super) doubtful: bool,
}

// === impl Answer ===

impl<'a> Answer<'a> {
    pub(super) fn read(json: &'a [u8]) -> Option<Self> {
        // Serde would take an array of the members' values for the object.
        if !json.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        serde_json::from_slice(json).ok()
    }

    pub(super) fn id(&self) -> Option<Arc<str>> {
        text(self.id)
    }

    pub(super) fn model(&self) -> Option<Arc<str>> {
        text(self.model)
    }

    /// The usage, if there is one and it can be believed in part at least.
    pub(super) fn usage(&self) -> Option<Reported> {
        Reported::read(self.usage?)
    }

    pub(super) fn is_error(&self) -> bool {
        self.error.is_some()
    }

    /// Whether this is the chunk that `include_usage` adds: usage and no choice.
    pub(super) fn is_lone_usage(&self) -> bool {
        let usage = self.usage.is_some_and(|usage| usage.get().starts_with('{'));
        let choices = self.choices.is_some_and(|choices| {
            let inner = choices
                .get()
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            inner.is_none_or(|inner| !inner.trim().is_empty())
        });
        usage && !choices && !self.is_error()
    }
}

// === impl Reported ===

impl Reported {
    fn read(raw: &RawValue) -> Option<Self> {
        if !raw.get().starts_with('{') {
            return None;
        }
        let usage: Usage<'_> = serde_json::from_str(raw.get()).ok()?;
        let prompt = count(usage.prompt_tokens);
        let output = count(usage.completion_tokens);
        if prompt.is_none() && output.is_none() {
            return None;
        }
        let details: PromptDetails<'_> = object(usage.prompt_tokens_details);
        let (cache_read, cache_write) = (
            count(details.cached_tokens),
            count(details.cache_write_tokens),
        );
        let details: CompletionDetails<'_> = object(usage.completion_tokens_details);
        // The prompt includes what was read from and written to the cache.
        let cached = cache_read.unwrap_or(0) + cache_write.unwrap_or(0);
        let tokens = TokenCounts {
            input: prompt.map(|prompt| prompt.saturating_sub(cached)),
            output,
            cache_read,
            cache_write,
            reasoning: count(details.reasoning_tokens),
        };
        Some(Self {
            tokens,
            doubtful: prompt.is_some_and(|prompt| cached > prompt),
        })
    }
}

/// A believable number of tokens.
fn count(raw: Option<&RawValue>) -> Option<u64> {
    raw?.get()
        .parse()
        .ok()
        .filter(|count| *count <= MOST_TOKENS)
}

fn text(raw: Option<&RawValue>) -> Option<Arc<str>> {
    let text: Cow<'_, str> = serde_json::from_str(raw?.get()).ok()?;
    name(&text)
}

fn object<'a, T>(raw: Option<&'a RawValue>) -> T
where
    T: Default + Deserialize<'a>,
{
    raw.filter(|raw| raw.get().starts_with('{'))
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str) -> Option<Reported> {
        let json = format!(r#"{{"usage":{json}}}"#);
        Answer::read(json.as_bytes()).unwrap().usage()
    }

    #[test]
    fn takes_cached_tokens_out_of_the_prompt() {
        let reported = usage(
            r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,
                "prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},
                "completion_tokens_details":{"reasoning_tokens":128}}"#,
        )
        .unwrap();
        assert!(!reported.doubtful);
        assert_eq!(reported.tokens.input, Some(86));
        assert_eq!(reported.tokens.cache_read, Some(1920));
        assert_eq!(reported.tokens.cache_write, None);
        assert_eq!(reported.tokens.output, Some(300));
        assert_eq!(reported.tokens.reasoning, Some(128));
        assert_eq!(reported.tokens.total(), 2306);
    }

    #[test]
    fn takes_cache_writes_out_of_the_prompt() {
        let reported = usage(
            r#"{"prompt_tokens":100,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":10,"cache_write_tokens":20}}"#,
        );
        assert_eq!(reported.unwrap().tokens.input, Some(70));
        assert_eq!(reported.unwrap().tokens.total(), 101);
    }

    #[test]
    fn d6_58_a_reported_zero_is_zero() {
        let reported = usage(r#"{"prompt_tokens":0,"completion_tokens":0}"#).unwrap();
        assert_eq!(
            (reported.tokens.input, reported.tokens.output),
            (Some(0), Some(0))
        );
        assert_eq!(reported.tokens.cache_read, None);
    }

    #[test]
    fn d6_58_what_is_no_believable_count_is_missing() {
        for odd in [
            "-1",
            "\"5\"",
            "1e3",
            "5.0",
            "null",
            "[]",
            "{}",
            "true",
            "1000000001",
            "1e400",
        ] {
            let both = format!(r#"{{"prompt_tokens":{odd},"completion_tokens":{odd}}}"#);
            assert_eq!(usage(&both), None, "{odd}");
            let one = usage(&format!(
                r#"{{"prompt_tokens":7,"completion_tokens":{odd}}}"#
            ))
            .unwrap();
            assert_eq!(
                (one.tokens.input, one.tokens.output),
                (Some(7), None),
                "{odd}"
            );
        }
        for odd in [
            "null",
            "7",
            "\"x\"",
            "[1,2,null,null]",
            r#"{"prompt_tokens":1,"prompt_tokens":2}"#,
        ] {
            assert_eq!(usage(odd), None, "{odd}");
        }
    }

    #[test]
    fn more_cached_than_prompted_is_doubtful() {
        let reported =
            usage(r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9}}"#).unwrap();
        assert!(reported.doubtful);
        assert_eq!(reported.tokens.input, Some(0));
        assert_eq!(reported.tokens.cache_read, Some(9));
    }

    #[test]
    fn an_odd_member_does_not_hide_the_others() {
        let json = br#"{"id":7,"model":["x"],"choices":3,"usage":{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":"no"}}"#;
        let answer = Answer::read(json).unwrap();
        assert_eq!((answer.id(), answer.model()), (None, None));
        assert_eq!(answer.usage().unwrap().tokens.total(), 3);
    }

    #[test]
    fn knows_the_chunk_that_only_tells_usage() {
        for (json, lone) in [
            (r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, true),
            (r#"{"choices":[ ],"usage":{}}"#, true),
            (r#"{"usage":{"prompt_tokens":-1}}"#, true),
            (r#"{"choices":[],"usage":null}"#, false),
            (r#"{"choices":[],"prompt_filter_results":[]}"#, false),
            (
                r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}"#,
                false,
            ),
            (r#"{"choices":[],"usage":{},"error":{}}"#, false),
        ] {
            assert_eq!(
                Answer::read(json.as_bytes()).unwrap().is_lone_usage(),
                lone,
                "{json}"
            );
        }
    }
}
