use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};

use crate::ResponseBody;

/// Seconds after which a full ledger is worth another try.
const FULL_FOR: HeaderValue = HeaderValue::from_static("5");

/// Why a call goes no further, told in the error object of OpenAI's API reference ("Error codes").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    TooLarge,
    Unreadable,
    Malformed,
    Model,
    Full,
}

// === impl Refusal ===

impl Refusal {
    pub(crate) fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let (status, body) = self.parts();
        let mut response = Response::new(ResponseBody::full(Bytes::from_static(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self == Self::Full {
            headers.insert(RETRY_AFTER, FULL_FOR);
        }
        response
    }

    const fn parts(self) -> (StatusCode, &'static [u8]) {
        match self {
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                br#"{"error":{"message":"The request body is too large.","type":"invalid_request_error","param":null,"code":"request_too_large"}}"#,
            ),
            Self::Unreadable => (
                StatusCode::BAD_REQUEST,
                br#"{"error":{"message":"The request body broke off.","type":"invalid_request_error","param":null,"code":"incomplete_body"}}"#,
            ),
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                br#"{"error":{"message":"The request body must be one JSON object, with each member at most once and of its documented type.","type":"invalid_request_error","param":null,"code":"invalid_json"}}"#,
            ),
            Self::Model => (
                StatusCode::BAD_REQUEST,
                br#"{"error":{"message":"A model must be named, in at most 256 bytes.","type":"invalid_request_error","param":"model","code":"invalid_model"}}"#,
            ),
            Self::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                br#"{"error":{"message":"Usage cannot be recorded at the moment. Try again shortly.","type":"server_error","param":null,"code":"usage_ledger_full"}}"#,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_an_openai_error() {
        for refusal in [
            Refusal::TooLarge,
            Refusal::Unreadable,
            Refusal::Malformed,
            Refusal::Model,
            Refusal::Full,
        ] {
            let (status, body) = refusal.parts();
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert!(status.is_client_error() || status.is_server_error());
            for member in ["message", "type", "code"] {
                assert!(
                    body["error"][member].is_string(),
                    "{refusal:?} says no {member}"
                );
            }
        }
    }
}
