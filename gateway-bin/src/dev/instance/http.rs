//! `/v1/chat/completions`: a turn of the person that the header names, as the real one's.

use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_websockets::Message;

use super::state::{Caller, now};
use super::{DemoInstance, USER_HEADER, method};

/// `POST /v1/chat/completions`
pub(super) async fn chat_completions(
    State(demo): State<DemoInstance>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let user = headers.get(USER_HEADER).and_then(|user| user.to_str().ok());
    let Some(user) = user else {
        return refused(StatusCode::UNAUTHORIZED, "Unauthorized");
    };
    let model = text("model").unwrap_or_default();
    let Some(agent) = model.strip_prefix("openclaw/") else {
        return refused(StatusCode::BAD_REQUEST, "Invalid `model`.");
    };
    let Some(message) = last_user(&body) else {
        return refused(
            StatusCode::BAD_REQUEST,
            "Missing user message in `messages`.",
        );
    };
    let session = match text("user") {
        Some(user) => format!("agent:{agent}:openai-user:{user}"),
        None => format!("agent:{agent}:openai:{}", uuid::Uuid::new_v4()),
    };
    let id = format!("chatcmpl_{}", uuid::Uuid::new_v4());
    let turn = match Turn::begin(demo, user, &session, &message, id, model) {
        Ok(turn) => turn,
        Err(message) => return refused(StatusCode::FORBIDDEN, &message),
    };
    if body.get("stream") == Some(&Value::Bool(true)) {
        let events = stream::unfold(Some(turn), async |turn| {
            let mut turn = turn?;
            let (event, goes_on) = turn.next_event().await;
            Some((Ok::<_, Infallible>(event), goes_on.then_some(turn)))
        });
        return (
            [(CONTENT_TYPE, "text/event-stream")],
            Body::from_stream(events),
        )
            .into_response();
    }
    turn.whole().await
}

/// A turn that is under way, and what its person is told of it; dropped, it is aborted.
struct Turn {
    demo: DemoInstance,
    connection: u64,
    inbox: mpsc::Receiver<Message>,
    id: String,
    model: String,
    has_begun: bool,
}

enum Told {
    Delta(String),
    Over { text: String, usage: Value },
    Failed(String),
}

// === impl Turn ===

impl Turn {
    fn begin(
        demo: DemoInstance,
        user: &str,
        session: &str,
        message: &str,
        id: String,
        model: &str,
    ) -> Result<Self, String> {
        let (caller, scopes, connection, inbox) = {
            let mut instance = demo.lock();
            let caller = Caller::Person(instance.profile_of(user));
            let scopes = instance.scopes(&caller, &["operator.read", "operator.write"]);
            let (connection, inbox) = instance.connect(caller.clone(), None);
            (caller, scopes, connection, inbox)
        };
        let turn = Self {
            demo,
            connection,
            inbox,
            id,
            model: model.to_owned(),
            has_begun: false,
        };
        let call = method::Call {
            demo: &turn.demo,
            connection,
            caller: &caller,
            scopes: &scopes,
            params: json!({"sessionKey": session, "message": message, "idempotencyKey": turn.id}),
        };
        call.answer("chat.send")
            .map_err(|error| error.message.to_string())?;
        Ok(turn)
    }

    async fn told(&mut self) -> Told {
        while let Some(message) = self.inbox.recv().await {
            let text = message.as_text().unwrap_or_default();
            let frame: Value = serde_json::from_str(text).unwrap_or_default();
            let payload = frame.get("payload").unwrap_or(&Value::Null);
            let of_payload = |name: &str| payload.get(name).and_then(Value::as_str);
            if frame.get("event").and_then(Value::as_str) != Some("chat")
                || of_payload("runId") != Some(&self.id)
            {
                continue;
            }
            let text = |pointer: &str| {
                let text = payload.pointer(pointer).and_then(Value::as_str);
                text.unwrap_or_default().to_owned()
            };
            match of_payload("state") {
                Some("delta") => return Told::Delta(text("/deltaText")),
                Some("final" | "aborted") => {
                    let count = |name: &str| {
                        let usage = payload.pointer("/message/usage");
                        usage
                            .and_then(|usage| usage.get(name)?.as_u64())
                            .unwrap_or(0)
                    };
                    return Told::Over {
                        text: text("/message/content/0/text"),
                        usage: json!({
                            "prompt_tokens": count("input"), "completion_tokens": count("output"),
                            "total_tokens": count("totalTokens"),
                        }),
                    };
                }
                Some("error") => return Told::Failed(text("/errorMessage")),
                _ => {}
            }
        }
        Told::Failed("the demo instance ends".to_owned())
    }

    async fn whole(mut self) -> Response {
        loop {
            match self.told().await {
                Told::Delta(_) => {}
                Told::Failed(message) => {
                    return refused(StatusCode::INTERNAL_SERVER_ERROR, &message);
                }
                Told::Over { text, usage } => {
                    let choice = json!({
                        "index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop",
                    });
                    return Json(json!({
                        "id": self.id, "object": "chat.completion", "created": now() / 1_000, "model": self.model,
                        "choices": [choice], "usage": usage,
                    }))
                    .into_response();
                }
            }
        }
    }

    /// The next event, and whether there is another one.
    async fn next_event(&mut self) -> (Bytes, bool) {
        if !self.has_begun {
            self.has_begun = true;
            return (self.chunk(&json!({"role": "assistant"}), None), true);
        }
        match self.told().await {
            Told::Delta(text) => (self.chunk(&json!({"content": text}), None), true),
            Told::Over { .. } => {
                let mut last = self.chunk(&json!({}), Some("stop")).to_vec();
                last.extend_from_slice(b"data: [DONE]\n\n");
                (last.into(), false)
            }
            Told::Failed(message) => {
                let error = json!({"error": {"message": message, "type": "api_error"}});
                let text = format!("data: {error}\n\ndata: [DONE]\n\n");
                (text.into(), false)
            }
        }
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Bytes {
        let chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": now() / 1_000, "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        });
        format!("data: {chunk}\n\n").into()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut instance = self.demo.lock();
        instance.disconnect(self.connection);
        if let Some(run) = instance.runs.get(&self.id) {
            run.abort.cancel();
        }
    }
}

/// What the person has said last.
fn last_user(body: &Value) -> Option<String> {
    let messages = body.get("messages")?.as_array()?;
    let last = messages
        .iter()
        .rfind(|message| message.get("role").is_some_and(|role| role == "user"))?;
    match last.get("content")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
            Some(texts.collect::<Vec<_>>().join("\n"))
        }
        _ => None,
    }
}

fn refused(status: StatusCode, message: &str) -> Response {
    let body = json!({"error": {"message": message, "type": "invalid_request_error"}});
    (status, Json(body)).into_response()
}
