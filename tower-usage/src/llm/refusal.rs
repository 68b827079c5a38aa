use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};

use super::Api;
use crate::ResponseBody;

/// Seconds after which a full ledger is worth another try.
const FULL_FOR: HeaderValue = HeaderValue::from_static("5");

/// Anthropic's own status for being overloaded (API reference, "Errors").
const OVERLOADED: u16 = 529;

/// Why a call goes no further, told in the error object of the API that was called: OpenAI's ("Error codes" of its API
/// reference) or Anthropic's ("Errors" of its).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    UnknownPath,
    Encoded,
    TooLarge,
    Unreadable,
    Malformed,
    Model,
    Background,
    Full,
}

struct Parts {
    status: StatusCode,
    message: &'static str,
    param: &'static str,
    code: &'static str,
}

// === impl Refusal ===

impl Refusal {
    pub(crate) fn into_response<B>(self, api: Api) -> Response<ResponseBody<B>> {
        let (status, body) = match api {
            Api::Messages => self.anthropic(),
            Api::ChatCompletions | Api::Responses | Api::Embeddings => self.openai(),
        };
        let mut response = Response::new(ResponseBody::full(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self == Self::Full {
            headers.insert(RETRY_AFTER, FULL_FOR);
        }
        response
    }

    fn openai(self) -> (StatusCode, String) {
        let Parts {
            status,
            message,
            param,
            code,
        } = self.parts();
        let kind = match self {
            Self::Full => "server_error",
            _ => "invalid_request_error",
        };
        let body = format!(
            r#"{{"error":{{"message":"{message}","type":"{kind}","param":{param},"code":"{code}"}}}}"#
        );
        (status, body)
    }

    fn anthropic(self) -> (StatusCode, String) {
        let Parts {
            status, message, ..
        } = self.parts();
        let (status, kind) = match self {
            Self::UnknownPath => (status, "not_found_error"),
            Self::TooLarge => (status, "request_too_large"),
            // Its SDKs try again at this as they do at 503, and know it by name.
            Self::Full => (
                StatusCode::from_u16(OVERLOADED).unwrap_or(status),
                "overloaded_error",
            ),
            _ => (status, "invalid_request_error"),
        };
        let body =
            format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#);
        (status, body)
    }

    /// Nothing here needs to be escaped in JSON; `param` is JSON.
    const fn parts(self) -> Parts {
        let (status, code, param, message) = match self {
            Self::UnknownPath => (
                StatusCode::NOT_FOUND,
                "unknown_url",
                "null",
                "No API of language models is served at this path.",
            ),
            Self::Encoded => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_content_encoding",
                "null",
                "The request body must not be compressed.",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                "null",
                "The request body is too large.",
            ),
            Self::Unreadable => (
                StatusCode::BAD_REQUEST,
                "incomplete_body",
                "null",
                "The request body broke off.",
            ),
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "invalid_json",
                "null",
                "The request body must be one JSON object, with each member at most once and of its documented type.",
            ),
            Self::Model => (
                StatusCode::BAD_REQUEST,
                "invalid_model",
                r#""model""#,
                "A model must be named, in at most 256 bytes.",
            ),
            Self::Background => (
                StatusCode::BAD_REQUEST,
                "unsupported_value",
                r#""background""#,
                "Responses in the background are not served: what they use could not be accounted for.",
            ),
            Self::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "usage_ledger_full",
                "null",
                "Usage cannot be recorded at the moment. Try again shortly.",
            ),
        };
        Parts {
            status,
            message,
            param,
            code,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const ALL: [Refusal; 8] = [
        Refusal::UnknownPath,
        Refusal::Encoded,
        Refusal::TooLarge,
        Refusal::Unreadable,
        Refusal::Malformed,
        Refusal::Model,
        Refusal::Background,
        Refusal::Full,
    ];

    #[test]
    fn every_refusal_is_an_openai_error() {
        for refusal in ALL {
            let (status, body) = refusal.openai();
            let body: Value = serde_json::from_str(&body).unwrap();
            assert!(status.is_client_error() || status.is_server_error());
            for member in ["message", "type", "code"] {
                assert!(
                    body["error"][member].is_string(),
                    "{refusal:?} says no {member}"
                );
            }
            assert!(body["error"].as_object().unwrap().contains_key("param"));
        }
    }

    #[test]
    fn every_refusal_is_an_anthropic_error() {
        for refusal in ALL {
            let (status, body) = refusal.anthropic();
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["type"], "error");
            assert!(body["error"]["message"].is_string());
            let kind = match status.as_u16() {
                404 => "not_found_error",
                413 => "request_too_large",
                529 => "overloaded_error",
                _ => "invalid_request_error",
            };
            assert_eq!(body["error"]["type"], kind, "{refusal:?}");
        }
        assert_eq!(Refusal::Full.anthropic().0, 529);
    }
}
