use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use serde_json::{Value, json};

use crate::config::ProviderKind;

/// An answer of ours in the place of a provider's, in the form of its errors.
pub(super) fn refusal<B>(
    kind: ProviderKind,
    status: StatusCode,
    code: &str,
    message: &str,
) -> Response<Either<B, Full<Bytes>>> {
    let body = error(kind, status, code, message).to_string();
    let mut response = Response::new(Either::Right(Full::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The error object of OpenAI's API reference ("Error codes"), or of Anthropic's ("Errors").
pub(super) fn error(kind: ProviderKind, status: StatusCode, code: &str, message: &str) -> Value {
    match kind {
        ProviderKind::Openai => json!({
            "error": { "message": message, "type": "gateway_error", "param": null, "code": code },
        }),
        ProviderKind::Anthropic => {
            let of_status = match status {
                StatusCode::UNAUTHORIZED => "authentication_error",
                StatusCode::FORBIDDEN => "permission_error",
                StatusCode::NOT_FOUND => "not_found_error",
                StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
                status if status.is_client_error() => "invalid_request_error",
                _ => "api_error",
            };
            json!({ "type": "error", "error": { "type": of_status, "message": message, "code": code } })
        }
    }
}
