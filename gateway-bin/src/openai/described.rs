//! What requests and refusals are, for the API's description.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::openapi::{
    Content as Described, OneOfBuilder, Ref, RefOr, Response, ResponseBuilder, Schema,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::refusal::ErrorAnswer;
use crate::api::{ERROR_SCHEMA, retry_after};

/// A request of OpenAI's Chat Completions API, as far as it has to be a certain way.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({
    "model": "openclaw",
    "messages": [{"role": "user", "content": "What is on my list?"}],
    "user": "shopping",
}))]
#[expect(dead_code, reason = "`chat` reads it; this describes it")]
pub(super) struct ChatCompletionRequest {
    /// A name of those that `/v1/models` lists.
    model: String,
    /// The conversation: messages of OpenAI's API, in which images are `data:` addresses.
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    /// Names a conversation of the agent's, which goes on with it. Without it there is nothing before.
    user: Option<String>,
    /// Whether the answer comes in pieces.
    stream: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "`chat` reads it; this describes it")]
struct Message {
    #[schema(inline)]
    role: Role,
    #[schema(inline)]
    content: Option<Content>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Role {
    Assistant,
    Developer,
    Function,
    System,
    Tool,
    User,
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "`chat` reads it; this describes it")]
enum Content {
    Text(String),
    Parts(Vec<Map<String, Value>>),
}

/// A request of OpenAI's Responses API, as far as it has to be a certain way.
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({
    "model": "openclaw",
    "input": "What is on my list?",
    "user": "shopping",
}))]
#[expect(dead_code, reason = "`responses` reads it; this describes it")]
pub(super) struct ResponseRequest {
    /// A name of those that `/v1/models` lists.
    model: String,
    #[schema(inline)]
    input: Input,
    /// Names a conversation of the agent's, which goes on with it.
    user: Option<String>,
    /// The response that this one goes on with.
    previous_response_id: Option<String>,
    /// Whether the answer comes in pieces.
    stream: Option<bool>,
}

/// What is said, or items of OpenAI's API, in which files are `data:` addresses.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "`responses` reads it; this describes it")]
enum Input {
    Text(String),
    Items(Vec<Map<String, Value>>),
}

/// The refusals of every route. What is refused before a route is found is refused in the form of the other API.
pub(super) struct Refused;

/// Those of a run too.
pub(super) struct RunRefused;

fn refusals(
    all: impl IntoIterator<Item = (StatusCode, &'static str)>,
) -> BTreeMap<String, RefOr<Response>> {
    all.into_iter()
        .map(|(status, description)| {
            let mut schema = ErrorAnswer::schema();
            if matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) {
                let of_api = Ref::from_schema_name(ERROR_SCHEMA);
                let either = OneOfBuilder::new().item(schema).item(of_api);
                schema = Schema::OneOf(either.build()).into();
            }
            let content = Described::new(Some(schema));
            let mut response = ResponseBuilder::new()
                .description(description)
                .content("application/json", content)
                .build();
            if matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            ) {
                response.headers.extend([retry_after()]);
            }
            (status.as_str().to_owned(), response.into())
        })
        .collect()
}

// === impl Refused ===

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals([
            (StatusCode::BAD_REQUEST, "what is asked for is malformed"),
            (StatusCode::UNAUTHORIZED, "nobody is signed in"),
            (
                StatusCode::FORBIDDEN,
                "the personal access token is not for that, or the page is of another origin",
            ),
            (StatusCode::NOT_FOUND, "there is no such model"),
            (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment"),
        ])
    }
}

// === impl RunRefused ===

impl IntoResponses for RunRefused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut all = Refused::responses();
        all.extend(refusals([
            (StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
            (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body is not said to be application/json, or is compressed",
            ),
            (
                StatusCode::TOO_MANY_REQUESTS,
                "a quota is used up, or too many runs go on; `retry-after` says when to come again",
            ),
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the agent has failed; `x-should-retry: false`, since it has worked",
            ),
            (
                StatusCode::NOT_IMPLEMENTED,
                "the instance does not offer this",
            ),
            (StatusCode::BAD_GATEWAY, "the instance has failed"),
            (
                StatusCode::GATEWAY_TIMEOUT,
                "the instance did not answer in time",
            ),
        ]));
        all
    }
}
