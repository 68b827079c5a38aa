use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{
    RecordId,
    llm::{estimate, name::name, refusal::Refusal},
};

/// What a request asks of a model.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ModelCall {
    /// The id under which the call will be recorded. To be sent to the provider too, where it takes one
    /// (`X-Client-Request-Id` of OpenAI's API reference, "Debugging requests").
    pub id: RecordId,
    /// The model asked for.
    pub requested_model: Arc<str>,
    /// The most tokens all choices together may generate, if the request sets a limit.
    ///
    /// The larger of `max_completion_tokens` and `max_tokens`, times `n`.
    pub max_output: Option<u64>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// A guess at the prompt's tokens: a quarter of the bytes of the body, rounded up. Inlined pictures and sound make
    /// it too high.
    pub estimated_input: u64,
    /// Whether the layer asked for usage in place of the client, who must not see it then.
    pub usage_injected: bool,
}

/// The members that decide what a call may take. Each at most once: of a duplicate, we and the provider might believe
/// different ones.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    n: Option<u64>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct StreamOptions<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'a RawValue>,
}

// === impl ModelCall ===

impl ModelCall {
    /// Reads a body; gives the one to send on, which asks for usage if it is to be streamed.
    pub(super) fn read(body: Bytes) -> Result<(Self, Bytes), Refusal> {
        // Serde would take an array of the members' values for the object.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::Malformed);
        }
        let wire: Wire<'_> = serde_json::from_slice(&body).map_err(|_| Refusal::Malformed)?;
        let model = wire.model.as_deref().and_then(name);
        let requested_model = model.ok_or(Refusal::Model)?;
        let choices = wire.n.unwrap_or(1).max(1);
        let most = wire.max_completion_tokens.max(wire.max_tokens);
        let stream = wire.stream.unwrap_or(false);
        let asking = match stream {
            true => ask_for_usage(&body, wire.stream_options)?,
            false => None,
        };
        let call = Self {
            id: RecordId::new(),
            requested_model,
            max_output: most.map(|most| most.saturating_mul(choices)),
            stream,
            estimated_input: estimate::tokens(body.len() as u64),
            usage_injected: asking.is_some(),
        };
        Ok((call, asking.unwrap_or(body)))
    }
}

/// The body that asks for usage, or `None` if it does so already.
fn ask_for_usage(body: &Bytes, options: Option<&RawValue>) -> Result<Option<Bytes>, Refusal> {
    let Some(options) = options else {
        return insert(body, body, r#""stream_options":{"include_usage":true}"#).map(Some);
    };
    if options.get() == "null" {
        return replace(body, options, r#"{"include_usage":true}"#).map(Some);
    }
    if !options.get().starts_with('{') {
        return Err(Refusal::Malformed);
    }
    let parsed: StreamOptions<'_> =
        serde_json::from_str(options.get()).map_err(|_| Refusal::Malformed)?;
    match parsed.include_usage {
        None => insert(body, options.get().as_bytes(), r#""include_usage":true"#).map(Some),
        Some(value) if value.get() == "true" => Ok(None),
        Some(value) if matches!(value.get(), "false" | "null") => {
            replace(body, value, "true").map(Some)
        }
        Some(_) => Err(Refusal::Malformed),
    }
}

/// The body with a member put first in `object`, a part of it.
fn insert(body: &[u8], object: &[u8], member: &str) -> Result<Bytes, Refusal> {
    let open = object
        .iter()
        .position(|byte| *byte == b'{')
        .ok_or(Refusal::Malformed)?
        + 1;
    let rest = object.get(open..).unwrap_or_default().trim_ascii_start();
    let comma = if rest.starts_with(b"}") { "" } else { "," };
    splice(body, offset(body, object) + open, 0, &[member, comma])
}

/// The body with `value`, a part of it, replaced.
fn replace(body: &[u8], value: &RawValue, by: &str) -> Result<Bytes, Refusal> {
    let value = value.get().as_bytes();
    splice(body, offset(body, value), value.len(), &[by])
}

fn splice(body: &[u8], at: usize, skip: usize, insert: &[&str]) -> Result<Bytes, Refusal> {
    let (before, after) = body.split_at_checked(at).ok_or(Refusal::Malformed)?;
    let after = after.get(skip..).ok_or(Refusal::Malformed)?;
    let insert = insert.concat();
    Ok([before, insert.as_bytes(), after].concat().into())
}

/// Where `part` begins in `whole`, of which it is a slice.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}

/// A member that is there, also as `null`.
fn present<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &str) -> Result<(ModelCall, String), Refusal> {
        let (call, body) = ModelCall::read(Bytes::copy_from_slice(body.as_bytes()))?;
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
            let _ = ModelCall::read(Bytes::from(body));
        }
    }
}
