//! A model that repeats what it was told, behind OpenAI's chat completions.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// Its only model.
pub const MODEL: &str = "demo-model";

/// Pause between two words.
const WORD: Duration = Duration::from_millis(25);

/// Bytes of text for a token, about.
const BYTES_PER_TOKEN: usize = 4;

/// The routes of a model that `key` opens.
pub fn routes(key: &str) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(complete))
        .with_state(Arc::from(format!("Bearer {key}")))
}

async fn models() -> Json<Value> {
    Json(json!({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "demo"}]}))
}

async fn complete(State(bearer): State<Arc<str>>, headers: HeaderMap, body: Bytes) -> Response {
    let presented = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if presented != Some(&*bearer) {
        return refuse(StatusCode::UNAUTHORIZED, "unknown key");
    }
    let Ok(call) = serde_json::from_slice::<Value>(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "the request is no JSON");
    };
    let Some(messages) = call.get("messages").and_then(Value::as_array) else {
        return refuse(StatusCode::BAD_REQUEST, "messages are missing");
    };
    let said = last_said(messages);
    let reply = format!("This is the demo model of `gateway dev`. You said: {said}");
    let prompt: usize = messages.iter().map(|message| text(message).len()).sum();
    let (prompt, completion) = (tokens(prompt), tokens(reply.len()));
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion});
    let id = format!("chatcmpl-demo-{}", uuid::Uuid::new_v4().simple());
    if call.get("stream") == Some(&Value::Bool(true)) {
        return streamed(&id, &reply, &usage);
    }
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"});
    Json(json!({"id": id, "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": usage}))
        .into_response()
}

/// Word by word, as a model would.
fn streamed(id: &str, reply: &str, usage: &Value) -> Response {
    let chunk = |choices: Value, usage: &Value| {
        let chunk = json!({"id": id, "object": "chat.completion.chunk", "created": 0, "model": MODEL,
            "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let mut events: Vec<String> = reply
        .split_inclusive(' ')
        .map(|word| chunk(json!([{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": null}]), &Value::Null))
        .collect();
    let end = json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]);
    events.push(chunk(end, &Value::Null));
    events.push(chunk(json!([]), usage));
    events.push("data: [DONE]\n\n".to_owned());
    let events = stream::unfold(events.into_iter(), |mut events| async move {
        let event = events.next()?;
        tokio::time::sleep(WORD).await;
        Some((Ok::<_, Infallible>(event), events))
    });
    (
        [(CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(events),
    )
        .into_response()
}

/// What the person said last, without what an instance puts around it.
fn last_said(messages: &[Value]) -> String {
    let of_user = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("user");
    let mut said = messages.iter().rev().filter(of_user).map(text);
    let said = said.find(|text| !text.contains("OPENCLAW_INTERNAL_CONTEXT"));
    let said = said.unwrap_or_default();
    let said = said.split("\n\nRuntime: agent=").next().unwrap_or_default();
    let stamped = said
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    let said = stamped.map_or(said, |(_, rest)| rest).trim_start();
    // Who said it comes first, in a paragraph of its own.
    let told = said
        .strip_prefix("Conversation info:")
        .and_then(|rest| rest.split_once("\n\n"));
    told.map_or(said, |(_, rest)| rest).trim().to_owned()
}

/// A content is text or a list of parts.
fn text(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|part| part.get("text")?.as_str())
            .collect(),
        _ => String::new(),
    }
}

fn tokens(bytes: usize) -> usize {
    bytes.div_ceil(BYTES_PER_TOKEN).max(1)
}

fn refuse(status: StatusCode, message: &str) -> Response {
    let error =
        json!({"error": {"message": message, "type": "invalid_request_error", "code": null}});
    (status, Json(error)).into_response()
}
