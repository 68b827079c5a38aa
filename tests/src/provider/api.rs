//! The APIs that the provider speaks, and what differs between them.

use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    chat,
    directive::{Break, Plan},
    embeddings, messages,
    prompt::Prompt,
    responses,
    stream::Events,
};

/// An API of model providers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's embeddings.
    Embeddings,
    /// Anthropic's messages.
    Messages,
}

/// What all parts of one answer repeat.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
}

impl Api {
    /// Which one is served at a path.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/responses" => Some(Self::Responses),
            "/v1/embeddings" => Some(Self::Embeddings),
            "/v1/messages" => Some(Self::Messages),
            _ => None,
        }
    }

    /// The key in the one header where this API wants it.
    pub(super) fn key(self, headers: &HeaderMap) -> &str {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let key = match self {
            Self::Messages => text("x-api-key"),
            _ => text("authorization").and_then(|value| value.strip_prefix("Bearer ")),
        };
        key.unwrap_or_default()
    }

    /// The id of the `n`th answer.
    pub(super) fn id(self, n: u64) -> String {
        match self {
            Self::Chat => format!("chatcmpl-{n}"),
            Self::Responses => format!("resp_{n}"),
            Self::Embeddings => format!("embd-{n}"),
            Self::Messages => format!("msg_{n}"),
        }
    }

    /// The header of answers with the id of the request, for whoever asks the provider what went wrong.
    pub(super) fn request_id_header(self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::Messages => "request-id",
            _ => "x-request-id",
        })
    }

    pub(super) fn prompt(self, body: &Value) -> Prompt {
        match self {
            Self::Chat => chat::prompt(body),
            Self::Responses => responses::prompt(body),
            Self::Embeddings => embeddings::prompt(body),
            Self::Messages => messages::prompt(body),
        }
    }

    pub(super) fn plan(self, prompt: &Prompt) -> Plan {
        let plan = Plan::of(prompt);
        match self {
            Self::Embeddings => plan.of_input_only(),
            _ => plan,
        }
    }

    /// Why the real provider would refuse a request.
    pub(super) fn problem(self, headers: &HeaderMap, body: &Value) -> Option<String> {
        match self {
            Self::Messages => messages::problem(headers, body),
            _ if body["model"].is_null() => Some("you must provide a model".to_owned()),
            Self::Chat => chat::problem(body),
            Self::Responses => responses::problem(body),
            Self::Embeddings => embeddings::problem(body),
        }
    }

    /// The answer to a request that does not ask for a stream.
    pub(super) fn whole(self, head: &Head, plan: &Plan, body: &Value) -> Value {
        match self {
            Self::Chat => chat::whole(head, plan),
            Self::Responses => responses::whole(head, plan),
            Self::Embeddings => embeddings::whole(head, plan, body),
            Self::Messages => messages::whole(head, plan),
        }
    }

    /// The answer to a request that asks for a stream. Embeddings have none.
    pub(super) fn events(self, head: &Head, plan: &Plan, body: &Value) -> Option<Events> {
        if body["stream"] != true {
            return None;
        }
        match self {
            Self::Chat => Some(chat::events(head, plan, body)),
            Self::Responses => Some(responses::events(head, plan)),
            Self::Embeddings => None,
            Self::Messages => Some(messages::events(head, plan)),
        }
    }

    /// Makes a streamed answer fail as its plan says.
    pub(super) fn fail(self, events: &mut Events, (breaks, after): (Break, u64)) {
        events.truncate(after, breaks);
        if breaks == Break::Cut {
            return;
        }
        let (message, billed) = ("told to fail", events.billed());
        match self {
            Self::Messages => {
                let overloaded =
                    StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                events.push_named("error", messages::error(overloaded, message, ""), billed);
            }
            Self::Responses => {
                let error = json!({
                    "type": "error", "code": "server_error", "message": message, "param": null, "sequence_number": after,
                });
                events.push_named("error", error, billed);
            }
            _ => events.push(openai_error(message), billed),
        }
    }

    pub(super) fn error(self, status: StatusCode, message: &str, request_id: &str) -> Value {
        match self {
            Self::Messages => messages::error(status, message, request_id),
            _ => openai_error(message),
        }
    }
}

/// An error as OpenAI words it.
pub(super) fn openai_error(message: &str) -> Value {
    json!({"error": {"message": message, "type": "test_error", "param": null, "code": null}})
}
