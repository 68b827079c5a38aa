use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;

use super::{include_usage::ask_for_usage, wire::Asked};
use crate::{
    RecordId,
    llm::{Api, estimate, name::name, refusal::Refusal},
};

/// What a request asks of a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelCall {
    /// The id under which the call will be recorded. To be sent to the provider too, where it takes one
    /// (`X-Client-Request-Id` of OpenAI's API reference, "Debugging requests").
    ///
    /// A call that is tried again between the layer and the meter reaches the provider as often, and is recorded as
    /// often: under this id the first time, under another each further time.
    pub id: RecordId,
    /// The API it is a call of.
    pub api: Api,
    /// The model asked for.
    pub requested_model: Arc<str>,
    /// The most tokens that may be generated, if the request sets a limit. Zero for embeddings.
    ///
    /// Of a chat completion the larger of `max_completion_tokens` and `max_tokens`, times `n`.
    pub max_output: Option<u64>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// A guess at the prompt's tokens: a quarter of the bytes of the body, rounded up. Inlined pictures and sound make
    /// it too high, what the provider adds to the prompt by itself (`previous_response_id`, files) too low.
    pub estimated_input: u64,
    /// Whether the layer asked for usage in place of the client, who must not see it then.
    pub usage_injected: bool,
    /// What the call has in common with its repetitions, if its client gave it an `Idempotency-Key`: a hash of that, of
    /// the API and of the body, 64 hexadecimal digits. It is not told apart by who calls: a gateway that names calls to
    /// a provider by it hashes that in, or one person gets what another was answered.
    pub idempotency_key: Option<Arc<str>>,
    recorded: Arc<AtomicBool>,
}

// === impl ModelCall ===

impl ModelCall {
    /// Reads a body; gives the one to send on, which asks for usage if it would not be told.
    pub(super) fn read(api: Api, body: Bytes) -> Result<(Self, Bytes), Refusal> {
        let asked = Asked::read(api, &body)?;
        let model = asked.model.as_deref().and_then(name);
        let requested_model = model.ok_or(Refusal::Model)?;
        let stream = asked.stream;
        let asking = match api {
            Api::ChatCompletions if stream => ask_for_usage(&body, asked.stream_options)?,
            // These tell it without being asked.
            _ => None,
        };
        let call = Self {
            id: RecordId::new(),
            api,
            requested_model,
            max_output: asked.most,
            stream,
            estimated_input: estimate::tokens(body.len() as u64),
            usage_injected: asking.is_some(),
            idempotency_key: None,
            recorded: Arc::new(AtomicBool::new(false)),
        };
        Ok((call, asking.unwrap_or(body)))
    }

    /// The id for one more record of this call: a ledger keeps one row of each.
    pub(crate) fn take_id(&self) -> RecordId {
        if self.recorded.swap(true, Ordering::Relaxed) {
            RecordId::new()
        } else {
            self.id
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &str) -> Result<(ModelCall, String), Refusal> {
        let (call, body) = ModelCall::read(
            Api::ChatCompletions,
            Bytes::copy_from_slice(body.as_bytes()),
        )?;
        Ok((call, String::from_utf8(body.to_vec()).unwrap()))
    }

    #[test]
    fn reads_what_the_call_may_take() {
        let body =
            r#"{"model":"m","max_tokens":10,"max_completion_tokens":20,"n":3,"messages":[]}"#;
        let (call, sent) = read(body).unwrap();
        assert_eq!(&*call.requested_model, "m");
        assert_eq!(call.max_output, Some(60));
        assert!(!call.stream && !call.usage_injected);
        assert_eq!(call.estimated_input, (body.len() as u64).div_ceil(4));
        assert_eq!(sent, body, "a call that is not streamed is not touched");
    }

    #[test]
    fn a_call_without_a_limit_has_none() {
        assert_eq!(
            read(r#"{"model":"m","max_tokens":null,"n":null}"#)
                .unwrap()
                .0
                .max_output,
            None
        );
    }

    #[test]
    fn the_largest_limit_times_choices_saturates() {
        let body = format!(r#"{{"model":"m","max_tokens":{0},"n":{0}}}"#, u64::MAX);
        assert_eq!(read(&body).unwrap().0.max_output, Some(u64::MAX));
    }

    #[test]
    fn asks_for_usage_and_leaves_every_other_byte() {
        for (body, sent) in [
            (
                "{ \"model\" : \"m\",\n\"stream\":true,\"x\":1.0e2 } ",
                "{\"stream_options\":{\"include_usage\":true}, \"model\" : \"m\",\n\"stream\":true,\"x\":1.0e2 } ",
            ),
            (
                r#"{"stream":true,"model":"m","stream_options":null}"#,
                r#"{"stream":true,"model":"m","stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{ },"model":"m"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true },"model":"m"}"#,
            ),
            (
                r#"{"stream":true,"stream_options": {"include_obfuscation":false},"model":"m"}"#,
                r#"{"stream":true,"stream_options": {"include_usage":true,"include_obfuscation":false},"model":"m"}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage" : false, "a":[]},"model":"m"}"#,
                r#"{"stream":true,"stream_options":{"include_usage" : true, "a":[]},"model":"m"}"#,
            ),
        ] {
            let (call, got) = read(body).unwrap();
            assert!(call.usage_injected);
            assert_eq!(got, sent);
            assert!(
                !read(&got).unwrap().0.usage_injected,
                "what is sent asks for usage"
            );
        }
    }

    #[test]
    fn a_client_who_asks_for_usage_is_not_interfered_with() {
        let body = r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#;
        let (call, sent) = read(body).unwrap();
        assert!(!call.usage_injected);
        assert_eq!(sent, body);
    }

    fn read_as(api: Api, body: &str) -> Result<ModelCall, Refusal> {
        let (call, sent) = ModelCall::read(api, Bytes::copy_from_slice(body.as_bytes()))?;
        assert_eq!(sent, body, "it tells usage without being asked");
        assert!(!call.usage_injected);
        Ok(call)
    }

    #[test]
    fn reads_what_calls_of_the_other_apis_may_take() {
        for (api, body, most, stream) in [
            (
                Api::Responses,
                r#"{"model":"m","input":"x","max_output_tokens":7,"stream":true,"background":false}"#,
                Some(7),
                true,
            ),
            (
                Api::Responses,
                r#"{"model":"m","max_tokens":9,"max_output_tokens":null}"#,
                None,
                false,
            ),
            (
                Api::Messages,
                r#"{"model":"m","max_tokens":9,"stream":true,"n":5,"messages":[]}"#,
                Some(9),
                true,
            ),
            (Api::Messages, r#"{"model":"m"}"#, None, false),
            (
                Api::Embeddings,
                r#"{"model":"m","input":["x"],"stream":"odd","max_tokens":-1}"#,
                Some(0),
                false,
            ),
        ] {
            let call = read_as(api, body).unwrap();
            assert_eq!(
                (call.api, call.max_output, call.stream),
                (api, most, stream),
                "{body}"
            );
            assert_eq!(&*call.requested_model, "m");
            assert_eq!(call.estimated_input, (body.len() as u64).div_ceil(4));
        }
    }

    #[test]
    fn refuses_calls_of_the_other_apis_that_could_be_read_differently() {
        for (api, bodies) in [
            (
                Api::Responses,
                &[
                    r#"{"model":"m","max_output_tokens":1,"max_output_tokens":2}"#,
                    r#"{"model":"m","max_output_tokens":"1"}"#,
                    r#"{"model":"m","background":1}"#,
                    r#"{"model":"m","background":true,"background":false}"#,
                    r#"{"model":"m","stream":1}"#,
                ][..],
            ),
            (
                Api::Messages,
                &[
                    r#"{"model":"m","max_tokens":-1}"#,
                    r#"{"model":"m","max_tokens":1,"max_tok\u0065ns":2}"#,
                    r#"{"model":"m","stream":true,"stream":false}"#,
                    r#"{"model":["m"]}"#,
                ],
            ),
            (
                Api::Embeddings,
                &[r#"{"model":"m","model":"n"}"#, r#"["m"]"#],
            ),
        ] {
            for body in bodies
                .iter()
                .chain(&["", "[]", r#"{"model":"m"}{}"#, r#"{"model":"m""#])
            {
                assert_eq!(
                    read_as(api, body).unwrap_err(),
                    Refusal::Malformed,
                    "{body}"
                );
            }
            assert_eq!(read_as(api, "{}").unwrap_err(), Refusal::Model);
        }
    }

    #[test]
    fn refuses_a_response_in_the_background() {
        let body = r#"{"model":"m","background":true,"stream":true}"#;
        assert_eq!(
            read_as(Api::Responses, body).unwrap_err(),
            Refusal::Background
        );
        assert!(read_as(Api::Messages, body).is_ok(), "no such thing there");
    }

    #[test]
    fn each_record_of_a_call_has_its_own_id() {
        let call = read(r#"{"model":"m"}"#).unwrap().0;
        assert_eq!(call.take_id(), call.id);
        assert_ne!(call.clone().take_id(), call.id, "it is tried again");
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for body in [
            "",
            "[]",
            r#"["m",true,null,1,1,1]"#,
            "null",
            r#"{"model":"m"}{}"#,
            r#"{"model":"m"} x"#,
            r#"{"model":"m""#,
            r#"{"model":"m","model":"n"}"#,
            r#"{"model":"m","m\u006fdel":"n"}"#,
            r#"{"model":"m","stream":true,"stream":false}"#,
            r#"{"model":"m","stream":true,"stream_options":{},"stream_options":null}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":false,"include_usage":true}}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":"yes"}}"#,
            r#"{"model":"m","stream":true,"stream_options":[true]}"#,
            r#"{"model":"m","stream":true,"stream_options":1}"#,
            r#"{"model":"m","stream":"true"}"#,
            r#"{"model":"m","n":-1}"#,
            r#"{"model":"m","n":1,"n":2}"#,
            r#"{"model":"m","max_tokens":1e30}"#,
            r#"{"model":"m","max_tokens":-5}"#,
            r#"{"model":"m","max_tokens":"5"}"#,
            r#"{"model":"m","max_tokens":18446744073709551616}"#,
            r#"{"model":"m","max_completion_tokens":1,"max_completion_tokens":2}"#,
            r#"{"model":7}"#,
        ] {
            assert_eq!(read(body).unwrap_err(), Refusal::Malformed, "{body}");
        }
    }

    #[test]
    fn refuses_a_call_without_a_sensible_model() {
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(257));
        for body in ["{}", r#"{"model":null}"#, r#"{"model":""}"#, &long] {
            assert_eq!(read(body).unwrap_err(), Refusal::Model, "{body}");
        }
    }

    proptest! {
        #[test]
        fn asking_for_usage_changes_nothing_else(
            other in "[a-z]{1,8}|\\PC{0,12}",
            text in "\\PC{0,40}",
            options in prop::option::of(prop_oneof![
                Just(json!(null)), Just(json!({})), Just(json!({"include_usage": false, "x": "}{"})), Just(json!({"y": 1}))
            ]),
        ) {
            let mut body = json!({"model": "m", "stream": true, "messages": [{"content": text}]});
            body[format!("x-{other}")] = json!(other);
            if let Some(options) = options {
                body["stream_options"] = options;
            }
            let (_, sent) = read(&body.to_string()).unwrap();
            let sent: Value = serde_json::from_str(&sent).unwrap();
            if !body["stream_options"].is_object() {
                body["stream_options"] = json!({});
            }
            body["stream_options"]["include_usage"] = json!(true);
            prop_assert_eq!(sent, body);
        }

        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for api in [Api::ChatCompletions, Api::Responses, Api::Embeddings, Api::Messages] {
                let _ = ModelCall::read(api, Bytes::from(body.clone()));
            }
        }
    }
}
