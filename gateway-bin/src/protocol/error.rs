use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use super::request::{Refusal, push_json};

/// The `error` of a response frame.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ErrorShape {
    /// What a program reads.
    pub code: &'static str,
    /// What a person reads.
    pub message: Cow<'static, str>,
    /// More for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Whether the same frame may succeed later without anybody doing something.
    pub retryable: bool,
    /// When, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// A response frame that answers the request `id` with a payload of ours, given as JSON text.
#[must_use]
pub fn response(id: &str, payload: &str) -> String {
    let mut frame = String::with_capacity(48 + id.len() + payload.len());
    frame.push_str(r#"{"type":"res","id":"#);
    push_json(&mut frame, id);
    frame.push_str(r#","ok":true,"payload":"#);
    frame.push_str(payload);
    frame.push('}');
    frame
}

/// A response frame that refuses the request `id`.
#[must_use]
pub fn error_response(id: &str, error: &ErrorShape) -> String {
    #[derive(Serialize)]
    struct Response<'a> {
        r#type: &'static str,
        id: &'a str,
        ok: bool,
        error: &'a ErrorShape,
    }
    // Strings and JSON values always serialise.
    serde_json::to_string(&Response {
        r#type: "res",
        id,
        ok: false,
        error,
    })
    .unwrap_or_default()
}

// === impl ErrorShape ===

impl ErrorShape {
    /// An error that stays.
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
            retryable: false,
            retry_after_ms: None,
        }
    }

    /// OpenClaw's own word for an instance that is starting or gone; its page waits and tries again.
    pub fn unavailable(message: impl Into<Cow<'static, str>>, retry_after_ms: u64) -> Self {
        Self {
            retryable: true,
            retry_after_ms: Some(retry_after_ms),
            ..Self::new("UNAVAILABLE", message)
        }
    }

    /// Adds `details.code`.
    #[must_use]
    pub fn detail(mut self, code: &'static str) -> Self {
        self.details = Some(serde_json::json!({ "code": code }));
        self
    }
}

impl From<Refusal> for ErrorShape {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownMethod | Refusal::Method(_) => {
                Self::new("FORBIDDEN", refusal.to_string()).detail("METHOD_NOT_AVAILABLE")
            }
            Refusal::Command(_) => {
                Self::new("FORBIDDEN", refusal.to_string()).detail("COMMAND_NOT_AVAILABLE")
            }
            Refusal::NotOwn(_) | Refusal::OtherConversation => {
                Self::new("FORBIDDEN", refusal.to_string())
            }
            Refusal::InvalidFrame | Refusal::InvalidParams | Refusal::SecondConnect => {
                Self::new("INVALID_REQUEST", refusal.to_string())
            }
        }
    }
}
