//! What each API's `usage` says.

mod anthropic;
mod openai;

use serde::Deserialize;
use serde_json::value::RawValue;

use self::{
    anthropic::Message,
    openai::{Chat, Response},
};
use super::reported::Reported;
use crate::llm::Api;

/// What a `usage` says in the classes of [`TokenCounts`](crate::TokenCounts).
pub(super) fn read(api: Api, usage: &RawValue) -> Reported {
    let read = match api {
        Api::ChatCompletions => object(usage).map(Chat::into_reported),
        Api::Responses => object(usage).map(Response::into_reported),
        Api::Embeddings => object(usage).map(Chat::into_embedded),
        Api::Messages => object(usage).map(Message::into_reported),
    };
    read.unwrap_or(Reported::INVALID)
}

fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    // Serde would take an array of the members' values for the object.
    let object = Some(raw.get()).filter(|json| json.starts_with('{'))?;
    serde_json::from_str(object).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{TokenCounts, llm::answer::count::Count};

    fn usage(api: Api, json: &str) -> Reported {
        read(api, serde_json::from_str(json).unwrap())
    }

    fn counts(input: u64, output: u64, cache_read: u64, reasoning: u64) -> TokenCounts {
        TokenCounts {
            input: Some(input),
            output: Some(output),
            cache_read: Some(cache_read),
            cache_write: None,
            cache_write_1h: None,
            reasoning: Some(reasoning),
        }
    }

    #[test]
    fn takes_cached_tokens_out_of_the_prompt() {
        // OpenAI's documentation, "Prompt caching".
        let chat = r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,
            "prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":128}}"#;
        let responses = r#"{"input_tokens":2006,"output_tokens":300,"total_tokens":2306,
            "input_tokens_details":{"cached_tokens":1920},"output_tokens_details":{"reasoning_tokens":128}}"#;
        for (api, json) in [(Api::ChatCompletions, chat), (Api::Responses, responses)] {
            let reported = usage(api, json);
            assert!(!reported.is_invalid());
            assert_eq!(reported.tokens(), counts(86, 300, 1920, 128));
            assert_eq!(reported.tokens().total(), 2306);
        }
    }

    #[test]
    fn reads_the_vector_of_openais_responses_reference() {
        // OpenAI's API reference, "Create a model response", example "Text input".
        let json = r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,
            "output_tokens_details":{"reasoning_tokens":0},"total_tokens":123}"#;
        let reported = usage(Api::Responses, json);
        assert_eq!(reported.tokens(), counts(36, 87, 0, 0));
        assert!(!reported.is_invalid());
    }

    #[test]
    fn takes_cache_writes_out_of_the_prompt() {
        let reported = usage(
            Api::ChatCompletions,
            r#"{"prompt_tokens":100,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":10,"cache_write_tokens":20}}"#,
        );
        assert_eq!(reported.tokens().input, Some(70));
        assert_eq!(reported.tokens().total(), 101);
    }

    #[test]
    fn leaves_anthropics_input_as_it_is() {
        // Anthropic's documentation, "Prompt caching", response of a 1-hour cache.
        let json = r#"{"input_tokens":2048,"cache_read_input_tokens":1800,"cache_creation_input_tokens":248,
            "output_tokens":503,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100}}"#;
        let reported = usage(Api::Messages, json);
        assert!(!reported.is_invalid());
        let tokens = reported.tokens();
        assert_eq!(
            (
                tokens.input,
                tokens.cache_read,
                tokens.cache_write,
                tokens.output
            ),
            (Some(2048), Some(1800), Some(248), Some(503))
        );
        assert_eq!(tokens.cache_write_1h, Some(100), "part of the 248");
        assert_eq!(tokens.total(), 4_599);
    }

    #[test]
    fn adds_up_what_was_written_to_anthropics_caches_if_only_that_is_told() {
        let json = r#"{"input_tokens":1,"output_tokens":1,"cache_creation":{"ephemeral_5m_input_tokens":148,"ephemeral_1h_input_tokens":100}}"#;
        assert_eq!(usage(Api::Messages, json).cache_write, Count::Told(248));
        let json = r#"{"input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":null,"cache_read_input_tokens":null,"cache_creation":null}"#;
        let reported = usage(Api::Messages, json);
        assert_eq!(reported.cache_write, Count::Missing);
        assert!(!reported.is_invalid(), "null is not told");
    }

    #[test]
    fn d6_58_what_is_cached_for_an_hour_is_part_of_what_is_cached() {
        // What is told besides, what is written, what of it for an hour, whether it can be believed.
        let told = Count::Told;
        for (members, written, long, invalid) in [
            ("", Count::Missing, Count::Missing, false),
            (
                r#","cache_creation_input_tokens":248"#,
                told(248),
                Count::Missing,
                false,
            ),
            (
                r#","cache_creation_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}"#,
                told(0),
                told(0),
                false,
            ),
            (
                r#","cache_creation_input_tokens":100,"cache_creation":{"ephemeral_1h_input_tokens":100}"#,
                told(100),
                told(100),
                false,
            ),
            (
                r#","cache_creation":{"ephemeral_1h_input_tokens":100}"#,
                told(100),
                told(100),
                false,
            ),
            (
                r#","cache_creation_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":null}"#,
                told(100),
                Count::Missing,
                false,
            ),
            (
                r#","cache_creation_input_tokens":null,"cache_creation":null"#,
                Count::Missing,
                Count::Missing,
                false,
            ),
            // The sum and its parts contradict each other: the greater.
            (
                r#","cache_creation_input_tokens":10,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":70}"#,
                told(70),
                told(70),
                true,
            ),
            (
                r#","cache_creation_input_tokens":10,"cache_creation":{"ephemeral_5m_input_tokens":-1,"ephemeral_1h_input_tokens":70}"#,
                told(10),
                Count::Invalid,
                true,
            ),
            (
                r#","cache_creation_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":50,"ephemeral_1h_input_tokens":"50"}"#,
                told(100),
                Count::Invalid,
                true,
            ),
            (
                r#","cache_creation_input_tokens":-5,"cache_creation":{"ephemeral_1h_input_tokens":5}"#,
                Count::Invalid,
                Count::Invalid,
                true,
            ),
            (
                r#","cache_creation_input_tokens":5,"cache_creation":[3,2]"#,
                told(5),
                Count::Invalid,
                true,
            ),
        ] {
            let json = format!(r#"{{"input_tokens":1,"output_tokens":1{members}}}"#);
            let reported = usage(Api::Messages, &json);
            assert_eq!(
                (reported.cache_write, reported.cache_write_1h),
                (written, long),
                "{members}"
            );
            assert_eq!(reported.is_invalid(), invalid, "{members}");
        }
    }

    #[test]
    fn d6_58_what_compaction_cached_for_an_hour_is_added() {
        let json = r#"{"input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":10,"iterations":[
            {"type":"compaction","input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":30,
             "cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20}},
            {"type":"compaction","cache_creation_input_tokens":5}]}"#;
        let reported = usage(Api::Messages, json);
        assert_eq!(
            (reported.cache_write, reported.cache_write_1h),
            (Count::Told(45), Count::Told(20))
        );
    }

    #[test]
    fn adds_what_compaction_took() {
        let json = r#"{"input_tokens":23000,"output_tokens":1000,"cache_read_input_tokens":0,"iterations":[
            {"type":"compaction","input_tokens":180000,"output_tokens":3500},
            {"type":"message","input_tokens":23000,"output_tokens":1000}]}"#;
        let reported = usage(Api::Messages, json);
        assert!(!reported.is_invalid());
        let tokens = reported.tokens();
        assert_eq!((tokens.input, tokens.output), (Some(203_000), Some(4_500)));
        assert_eq!((tokens.cache_read, tokens.cache_write), (Some(0), None));
        for iterations in [
            "null",
            "[]",
            "7",
            r#"[{"type":"message","input_tokens":5}]"#,
        ] {
            let json =
                format!(r#"{{"input_tokens":5,"output_tokens":1,"iterations":{iterations}}}"#);
            assert_eq!(
                usage(Api::Messages, &json).tokens().total(),
                6,
                "{iterations}"
            );
        }
        let json = r#"{"output_tokens":1,"iterations":[{"type":"compaction","input_tokens":5,"output_tokens":-1}]}"#;
        let reported = usage(Api::Messages, json);
        assert_eq!(
            (reported.input, reported.output),
            (Count::Missing, Count::Invalid)
        );
    }

    #[test]
    fn embeddings_generate_nothing() {
        for json in [
            r#"{"prompt_tokens":8,"total_tokens":8}"#,
            r#"{"total_tokens":8}"#,
            r#"{"prompt_tokens":8}"#,
        ] {
            let reported = usage(Api::Embeddings, json);
            assert_eq!(
                (reported.input, reported.output),
                (Count::Told(8), Count::Told(0))
            );
        }
        assert!(usage(Api::Embeddings, r#"{"prompt_tokens":8,"total_tokens":9}"#).is_invalid());
        assert!(usage(Api::Embeddings, "{}").is_empty());
    }

    #[test]
    fn d6_58_a_reported_zero_is_zero() {
        for (api, json) in [
            (
                Api::ChatCompletions,
                r#"{"prompt_tokens":0,"completion_tokens":0}"#,
            ),
            (
                Api::Responses,
                r#"{"input_tokens":0,"output_tokens":0,"total_tokens":0}"#,
            ),
            (Api::Messages, r#"{"input_tokens":0,"output_tokens":0}"#),
            (Api::Embeddings, r#"{"prompt_tokens":0,"total_tokens":0}"#),
        ] {
            let reported = usage(api, json);
            assert_eq!(
                (reported.input, reported.output),
                (Count::Told(0), Count::Told(0))
            );
            assert_eq!(reported.cache_read, Count::Missing);
            assert!(!reported.is_invalid());
        }
    }

    /// The names of input and output.
    const NAMES: [(Api, &str, &str); 3] = [
        (Api::ChatCompletions, "prompt_tokens", "completion_tokens"),
        (Api::Responses, "input_tokens", "output_tokens"),
        (Api::Messages, "input_tokens", "output_tokens"),
    ];

    #[test]
    fn d6_58_what_is_no_believable_count_is_invalid_and_hides_no_other() {
        for (api, input, output) in NAMES {
            for odd in [
                "-1",
                "\"5\"",
                "1e3",
                "5.0",
                "[]",
                "{}",
                "true",
                "1000000001",
                "1e400",
                "99999999999999999999",
            ] {
                let reported = usage(api, &format!(r#"{{"{input}":7,"{output}":{odd}}}"#));
                assert_eq!(reported.input, Count::Told(7), "{odd}");
                assert_eq!(reported.output, Count::Invalid, "{odd}");
                assert!(reported.is_invalid());
            }
            let reported = usage(api, &format!(r#"{{"{input}":null,"{output}":7}}"#));
            assert_eq!(
                (reported.input, reported.output),
                (Count::Missing, Count::Told(7))
            );
            assert!(!reported.is_invalid(), "null is not told");
            for odd in ["7", "\"x\"", "[1,2,null,null,null]", "true"] {
                assert_eq!(usage(api, odd), Reported::INVALID, "{odd}");
            }
            let twice = format!(r#"{{"{input}":1,"{input}":2,"{output}":1}}"#);
            assert_eq!(usage(api, &twice), Reported::INVALID);
            assert!(usage(api, "{}").is_empty());
        }
    }

    #[test]
    fn d6_58_details_of_the_wrong_type_are_invalid() {
        let reported = usage(
            Api::ChatCompletions,
            r#"{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":"no"}"#,
        );
        assert!(reported.is_invalid());
        assert_eq!(
            reported.tokens().total(),
            3,
            "all of it at the price of what is not cached"
        );
    }

    #[test]
    fn d6_58_counts_that_contradict_each_other_are_invalid() {
        for (json, tokens) in [
            (
                r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9}}"#,
                (None, Some(1)),
            ),
            (
                r#"{"prompt_tokens":5,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}"#,
                (Some(5), None),
            ),
            (
                r#"{"prompt_tokens":5,"completion_tokens":1,"total_tokens":5}"#,
                (None, None),
            ),
            (
                r#"{"prompt_tokens":5,"completion_tokens":1,"total_tokens":4}"#,
                (None, None),
            ),
            (
                r#"{"prompt_tokens":5,"completion_tokens":1,"total_tokens":50}"#,
                (Some(5), Some(45)),
            ),
        ] {
            let reported = usage(Api::ChatCompletions, json);
            assert!(reported.is_invalid(), "{json}");
            let told = reported.tokens();
            assert_eq!((told.input, told.output), tokens, "{json}");
            assert_eq!((told.cache_read, told.reasoning), (None, None), "{json}");
        }
        let json = r#"{"input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":5,"cache_creation":{"ephemeral_5m_input_tokens":7}}"#;
        let reported = usage(Api::Messages, json);
        assert!(reported.is_invalid());
        assert_eq!(reported.cache_write, Count::Told(7), "the greater");
    }

    #[test]
    fn thought_tokens_that_only_the_total_includes_are_output() {
        let json = r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}"#;
        let reported = usage(Api::ChatCompletions, json);
        assert!(!reported.is_invalid());
        assert_eq!(
            (reported.output, reported.reasoning),
            (Count::Told(103), Count::Told(94))
        );
    }

    proptest! {
        #[test]
        fn what_is_believed_adds_up(
            prompt in 0_u64..2_000, output in 0_u64..2_000, cached in 0_u64..2_000,
            reasoning in 0_u64..2_000, total in prop::option::of(0_u64..6_000),
        ) {
            let total = total.map_or_else(String::new, |total| format!(r#","total_tokens":{total}"#));
            let json = format!(
                r#"{{"input_tokens":{prompt},"output_tokens":{output},"input_tokens_details":{{"cached_tokens":{cached}}},"output_tokens_details":{{"reasoning_tokens":{reasoning}}}{total}}}"#
            );
            let reported = usage(Api::Responses, &json);
            let told = reported.tokens();
            prop_assert!(told.reasoning.is_none() || told.output.is_none() || told.reasoning <= told.output);
            if let Some(input) = told.input {
                prop_assert_eq!(input + told.cache_read.unwrap_or(0), prompt);
            }
            prop_assert!(reported.is_invalid() || told.total() >= prompt + output);
        }
    }
}
