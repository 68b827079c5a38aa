use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::llm::{Api, refusal::Refusal};

/// What decides what a call may take. Each member at most once: of a duplicate, we and the provider might believe
/// different ones.
pub(super) struct Asked<'a> {
    pub(super) model: Option<Cow<'a, str>>,
    /// The most tokens that may be generated.
    pub(super) most: Option<u64>,
    pub(super) stream: bool,
    pub(super) stream_options: Option<&'a RawValue>,
}

/// OpenAI's API reference, "Create chat completion".
#[derive(Deserialize)]
struct Chat<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    n: Option<u64>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
}

/// OpenAI's API reference, "Create a model response".
#[derive(Deserialize)]
struct Responses<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    max_output_tokens: Option<u64>,
    background: Option<bool>,
}

/// OpenAI's API reference, "Create embeddings".
#[derive(Deserialize)]
struct Embeddings<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
}

/// Anthropic's API reference, "Create a Message".
#[derive(Deserialize)]
struct Messages<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    stream: Option<bool>,
    max_tokens: Option<u64>,
}

// === impl Asked ===

impl<'a> Asked<'a> {
    pub(super) fn read(api: Api, body: &'a [u8]) -> Result<Self, Refusal> {
        // Serde would take an array of the members' values for the object.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::Malformed);
        }
        match api {
            Api::ChatCompletions => json(body).map(Chat::into_asked),
            Api::Responses => json(body).and_then(Responses::into_asked),
            Api::Embeddings => json(body).map(Embeddings::into_asked),
            Api::Messages => json(body).map(Messages::into_asked),
        }
    }
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::Malformed)
}

// === impl Chat, Responses, Embeddings, Messages ===

impl<'a> Chat<'a> {
    fn into_asked(self) -> Asked<'a> {
        let choices = self.n.unwrap_or(1).max(1);
        let most = self.max_completion_tokens.max(self.max_tokens);
        Asked {
            model: self.model,
            most: most.map(|most| most.saturating_mul(choices)),
            stream: self.stream.unwrap_or(false),
            stream_options: self.stream_options,
        }
    }
}

impl<'a> Responses<'a> {
    fn into_asked(self) -> Result<Asked<'a>, Refusal> {
        // Answered before it has used anything; what it will have used is told to whoever asks later, elsewhere.
        if self.background == Some(true) {
            return Err(Refusal::Background);
        }
        Ok(Asked {
            model: self.model,
            most: self.max_output_tokens,
            stream: self.stream.unwrap_or(false),
            stream_options: None,
        })
    }
}

impl<'a> Embeddings<'a> {
    fn into_asked(self) -> Asked<'a> {
        Asked {
            model: self.model,
            most: Some(0),
            stream: false,
            stream_options: None,
        }
    }
}

impl<'a> Messages<'a> {
    fn into_asked(self) -> Asked<'a> {
        Asked {
            model: self.model,
            most: self.max_tokens,
            stream: self.stream.unwrap_or(false),
            stream_options: None,
        }
    }
}

/// A member that is there, also as `null`.
pub(super) fn present<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}
