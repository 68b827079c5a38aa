use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use memchr::memmem::Finder;

use super::{
    error_name::ErrorName,
    reported::Reported,
    service_tier::ServiceTier,
    text::{answer_bytes, delta_bytes},
    usage,
    wire::Answer,
};
use crate::llm::Api;

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""usage""#));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""error""#));
static RESPONSE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""response""#));

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What an answer has told so far.
#[derive(Debug)]
pub(super) struct Reading {
    api: Api,
    pub(super) id: Option<Arc<str>>,
    pub(super) model: Option<Arc<str>>,
    pub(super) usage: Option<Reported>,
    /// Told more than once, the last is the one that it was served in.
    pub(super) service_tier: Option<ServiceTier>,
    /// The usage told is that of the whole answer, and not what its beginning announced.
    usage_is_final: bool,
    /// Bytes of generated text that went by.
    pub(super) text: u64,
    /// The provider refused, or broke off with an error in the answer itself.
    pub(super) failed: bool,
    pub(super) error: Option<ErrorName>,
    /// The provider said that the stream is at its end.
    pub(super) done: bool,
}

// === impl Reading ===

impl Reading {
    /// Nothing yet of an answer to a call of this API.
    pub(super) const fn new(api: Api) -> Self {
        Self {
            api,
            id: None,
            model: None,
            usage: None,
            service_tier: None,
            usage_is_final: false,
            text: 0,
            failed: false,
            error: None,
            done: false,
        }
    }

    /// Reads a whole answer. Of one that is cut off or is no JSON, all bytes count as text unless it can be told apart.
    pub(super) fn answer(&mut self, json: &[u8]) {
        let text = answer_bytes(self.api, json);
        if let Some(answer) = Answer::read(json) {
            self.take(&answer);
            // What an error says was not written by a model.
            if !answer.is_error() {
                self.text += text.unwrap_or(0);
            }
        } else {
            let text = text.or_else(|| delta_bytes(json));
            self.text += text.unwrap_or(json.trim_ascii().len() as u64);
        }
    }

    /// Reads an event of a stream; true for the one that only tells usage.
    ///
    /// The text of a delta is not parsed, only passed over. An event is parsed if it has none, or may tell more.
    pub(super) fn event(&mut self, event: &[u8]) -> bool {
        let text = delta_bytes(event);
        self.text += text.unwrap_or(0);
        if text.is_some() && !self.may_tell(event) {
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

    /// Reads some members of an answer.
    pub(super) fn members(&mut self, json: &[u8]) {
        if let Some(answer) = Answer::read(json) {
            self.take(&answer);
        }
    }

    /// Reads what a provider that refuses says of it.
    pub(super) fn refusal(&mut self, json: &[u8]) {
        if let Some(answer) = Answer::read(json) {
            self.take(&answer);
            self.error = self.error.take().or_else(|| answer.error_name());
        }
    }

    /// Whether there is nothing to pay for if the call failed: no text, and no usage but what was announced.
    pub(super) const fn is_free(&self) -> bool {
        self.text == 0 && !self.usage_is_final
    }

    /// Whether an event that has a delta may tell more than its text.
    fn may_tell(&self, event: &[u8]) -> bool {
        match self.api {
            Api::ChatCompletions | Api::Embeddings => {
                self.model.is_none() || tells(event, &USAGE) || tells(event, &ERROR)
            }
            Api::Responses => RESPONSE.find(event).is_some(),
            Api::Messages => tells(event, &USAGE),
        }
    }

    fn take(&mut self, answer: &Answer<'_>) {
        match self.api {
            Api::ChatCompletions | Api::Embeddings => self.take_object(answer),
            Api::Responses => self.take_response(answer),
            Api::Messages => self.take_message(answer),
        }
    }

    /// OpenAI's API reference, "Streaming events" of responses.
    fn take_response(&mut self, event: &Answer<'_>) {
        let response = event.about();
        let response = response.as_ref().unwrap_or(event);
        self.take_object(response);
        self.failed |= response.status().is_some_and(|status| status == "failed");
        match event.kind().as_deref() {
            Some("response.completed" | "response.incomplete" | "response.failed") => {
                self.done = true;
            }
            Some("error") => self.fail(event),
            _ => {}
        }
    }

    /// Anthropic's documentation, "Streaming Messages", "Event types".
    fn take_message(&mut self, event: &Answer<'_>) {
        match event.kind().as_deref() {
            Some("message_start") => {
                if let Some(message) = event.about() {
                    self.take_object(&message);
                }
                // It counts what the first event generated.
                if let Some(usage) = &mut self.usage {
                    usage.output = Default::default();
                }
                self.usage_is_final = false;
            }
            Some("message_stop") => self.done = true,
            Some("error") => self.fail(event),
            _ => self.take_object(event),
        }
    }

    fn take_object(&mut self, answer: &Answer<'_>) {
        if self.id.is_none() {
            self.id = answer.id();
        }
        if self.model.is_none() {
            self.model = answer.model();
        }
        if let Some(tier) = answer.service_tier() {
            self.service_tier = Some(tier);
        }
        let usage = answer.usage().map(|usage| usage::read(self.api, usage));
        if let Some(usage) = usage.filter(|usage| !usage.is_empty()) {
            // Told more than once, it is that of all so far.
            let earlier = self.usage.filter(|_| self.api == Api::Messages);
            self.usage = Some(usage.after(earlier.unwrap_or_default()));
            self.usage_is_final = true;
        }
        if answer.is_error() {
            self.fail(answer);
        }
    }

    fn fail(&mut self, answer: &Answer<'_>) {
        self.failed = true;
        self.error = self.error.take().or_else(|| answer.error_name());
    }
}

/// Whether an event has a member of this name that is not `null`: with `include_usage`, every chunk but the last says that
/// its usage is `null`.
fn tells(event: &[u8], name: &Finder<'_>) -> bool {
    name.find_iter(event).any(|at| {
        let rest = event
            .get(at + name.needle().len()..)
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

    fn reading(api: Api, events: &[&str]) -> Reading {
        let mut reading = Reading::new(api);
        for event in events {
            reading.event(format!("data: {event}\n\n").as_bytes());
        }
        reading
    }

    #[test]
    fn d6_57_joins_data_lines_and_passes_over_comments_and_fields() {
        let event = b": hi\r\nevent: x\r\ndata: {\"a\":\rdata:1}\nid: 4\ndata\n\n";
        assert_eq!(&*data(event), b"{\"a\":\n1}");
        assert_eq!(&*data(b"\xEF\xBB\xBFdata:x\n\n"), b"x");
        assert_eq!(&*data(b": only a comment\n\n"), b"");
    }

    #[test]
    fn d6_58_usage_of_a_chat_told_twice_is_the_later_one() {
        let reading = reading(
            Api::ChatCompletions,
            &[
                r#"{"id":"a","model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4}}}"#,
                r#"{"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#,
                r#"{"choices":[{"delta":{"content":"y"}}],"usage": null}"#,
                r#"{"choices":[{"delta":{"content":"z"}}],"usage": {}}"#,
            ],
        );
        let tokens = reading.usage.unwrap().tokens();
        assert_eq!(
            (tokens.input, tokens.output, tokens.cache_read),
            (Some(5), Some(2), None)
        );
        assert_eq!(reading.text, 3);
    }

    #[test]
    fn d6_58_usage_of_a_message_is_merged_by_member() {
        let start = r#"{"type":"message_start","message":{"id":"msg_1","model":"m","content":[],"usage":{"input_tokens":25,"cache_creation_input_tokens":100,"cache_read_input_tokens":7,"output_tokens":1}}}"#;
        let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}"#;
        let later = r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":30,"cache_read_input_tokens":0,"output_tokens":16}}"#;
        let stop = r#"{"type":"message_stop"}"#;
        for (events, expected) in [
            (&[start][..], [Some(25), None, Some(7), Some(100)]),
            (
                &[start, delta, stop],
                [Some(25), Some(15), Some(7), Some(100)],
            ),
            (
                &[start, delta, later, stop],
                [Some(30), Some(16), Some(0), Some(100)],
            ),
            (&[delta], [None, Some(15), None, None]),
        ] {
            let reading = reading(Api::Messages, events);
            let tokens = reading.usage.unwrap().tokens();
            assert_eq!(
                [
                    tokens.input,
                    tokens.output,
                    tokens.cache_read,
                    tokens.cache_write
                ],
                expected
            );
            assert_eq!(reading.done, events.contains(&stop));
        }
        let reading = reading(Api::Messages, &[start]);
        assert_eq!(
            (reading.id.as_deref(), reading.model.as_deref()),
            (Some("msg_1"), Some("m"))
        );
    }

    #[test]
    fn d6_58_what_a_message_cached_for_an_hour_is_told_at_its_start_and_may_be_told_again() {
        // Anthropic's documentation, "Prompt caching", "1-hour cache duration", as a stream tells it.
        let start = r#"{"type":"message_start","message":{"id":"msg_1","model":"m","content":[],"usage":{"input_tokens":2048,"cache_read_input_tokens":1800,"cache_creation_input_tokens":248,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100},"output_tokens":1}}}"#;
        let delta = |usage: &str| {
            format!(
                r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{{"output_tokens":503{usage}}}}}"#
            )
        };
        for (usage, written, long, invalid) in [
            ("", 248, Some(100), false),
            (
                r#","input_tokens":2048,"cache_creation_input_tokens":248,"cache_read_input_tokens":1800"#,
                248,
                Some(100),
                false,
            ),
            (
                r#","cache_creation_input_tokens":300,"cache_creation":{"ephemeral_5m_input_tokens":140,"ephemeral_1h_input_tokens":160}"#,
                300,
                Some(160),
                false,
            ),
            (r#","cache_creation_input_tokens":99"#, 99, None, true),
        ] {
            let reading = reading(Api::Messages, &[start, &delta(usage)]);
            let reported = reading.usage.unwrap();
            let tokens = reported.tokens();
            assert_eq!(
                (tokens.cache_write, tokens.cache_write_1h),
                (Some(written), long),
                "{usage}"
            );
            assert_eq!(reported.is_invalid(), invalid, "{usage}");
            assert_eq!((tokens.input, tokens.output), (Some(2048), Some(503)));
        }
    }

    #[test]
    fn reads_the_response_that_an_event_is_about() {
        let created = r#"{"type":"response.created","response":{"id":"resp_1","model":"m","status":"in_progress","error":null,"usage":null}}"#;
        let delta = r#"{"type":"response.output_text.delta","delta":"Hi"}"#;
        let part =
            r#"{"type":"response.content_part.done","part":{"type":"output_text","text":"Hi"}}"#;
        let last = |kind: &str, more: &str| {
            format!(
                r#"{{"type":"response.{kind}","response":{{"id":"resp_1","model":"m","status":"{kind}",{more}"usage":{{"input_tokens":3,"output_tokens":2}}}}}}"#
            )
        };
        for (kind, more, failed) in [
            ("completed", "", false),
            (
                "incomplete",
                r#""tools":[{"parameters":{"properties":{"delta":{"type":"string"}}}}],"#,
                false,
            ),
            (
                "failed",
                r#""error":{"code":"server_error","message":"m"},"#,
                true,
            ),
        ] {
            let reading = reading(Api::Responses, &[created, delta, part, &last(kind, more)]);
            assert_eq!(reading.usage.unwrap().tokens().total(), 5, "{kind}");
            assert_eq!((reading.done, reading.failed), (true, failed), "{kind}");
            assert_eq!(reading.error.is_some(), failed);
            assert_eq!(
                (reading.id.as_deref(), reading.model.as_deref()),
                (Some("resp_1"), Some("m"))
            );
        }
        assert_eq!(reading(Api::Responses, &[created, delta, part]).text, 2);
    }

    #[test]
    fn usage_in_generated_text_is_text() {
        let quoted = r#"{\"usage\":{\"prompt_tokens\":9},\"response\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":9}}}"#;
        for (api, event) in [
            (
                Api::ChatCompletions,
                format!(r#"{{"model":"m","choices":[{{"delta":{{"content":"{quoted}"}}}}]}}"#),
            ),
            (
                Api::Responses,
                format!(r#"{{"type":"response.output_text.delta","delta":"{quoted}"}}"#),
            ),
            (
                Api::Messages,
                format!(
                    r#"{{"type":"content_block_delta","delta":{{"type":"text_delta","text":"{quoted}"}}}}"#
                ),
            ),
        ] {
            let reading = reading(api, &[&event]);
            assert_eq!(reading.usage, None, "{event}");
            assert_eq!(reading.text, quoted.len() as u64);
        }
    }

    #[test]
    fn d6_59_an_error_event_is_a_failure() {
        for (api, event, name) in [
            (
                Api::ChatCompletions,
                r#"{"error":{"message":"overloaded","type":"server_error"}}"#,
                "server_error",
            ),
            (
                Api::Responses,
                r#"{"type":"error","code":"ERR","message":"m","param":null}"#,
                "ERR",
            ),
            (
                Api::Responses,
                r#"{"type":"error","error":{"type":"server_error","message":"m"}}"#,
                "server_error",
            ),
            (
                Api::Messages,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                "overloaded_error",
            ),
        ] {
            let reading = reading(api, &[event]);
            assert!(reading.failed && reading.is_free());
            assert_eq!(reading.error, ErrorName::new(name), "{event}");
        }
    }

    #[test]
    fn d6_59_what_a_message_announces_is_not_taken_if_it_fails_before_its_text() {
        let start =
            r#"{"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}"#;
        let error = r#"{"type":"error","error":{"type":"overloaded_error"}}"#;
        let text = r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}"#;
        assert!(reading(Api::Messages, &[start, error]).is_free());
        assert!(!reading(Api::Messages, &[start, text, error]).is_free());
    }

    #[test]
    fn a_refusal_names_its_error_and_may_tell_usage() {
        let mut reading = Reading::new(Api::Messages);
        reading.refusal(br#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"},"usage":{"input_tokens":4,"output_tokens":0}}"#);
        assert_eq!(reading.error, ErrorName::new("rate_limit_error"));
        let mut reading = Reading::new(Api::ChatCompletions);
        reading.refusal(
            br#"{"error":{"code":"x"},"usage":{"prompt_tokens":4,"completion_tokens":0}}"#,
        );
        assert!(!reading.is_free());
        reading.refusal(b"<html>");
    }

    #[test]
    fn d6_59_an_error_in_place_of_an_answer_is_free() {
        for (api, json) in [
            (
                Api::ChatCompletions,
                r#"{"error":{"message":"overloaded","type":"server_error"}}"#,
            ),
            (
                Api::Responses,
                r#"{"error":{"message":"overloaded"},"status":"failed","output":[]}"#,
            ),
            (
                Api::Messages,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#,
            ),
            (Api::Embeddings, r#"{"error":{"message":"overloaded"}}"#),
        ] {
            let mut reading = Reading::new(api);
            reading.answer(json.as_bytes());
            assert!(reading.failed && reading.is_free(), "{json}");
        }
    }

    #[test]
    fn d6_59_an_error_beside_a_delta_is_a_failure() {
        let mut reading = Reading::new(Api::ChatCompletions);
        reading.event(br#"data: {"model":"m","choices":[{"delta":{"content":"x"}}]}"#);
        reading.event(br#"data: {"error":null,"choices":[{"delta":{"content":"\"error\":1"}}]}"#);
        assert!(!reading.failed);
        reading.event(br#"data: {"error":{"code":502},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#);
        assert!(reading.failed);
    }
}
