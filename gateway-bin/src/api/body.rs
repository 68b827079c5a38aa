//! JSON bodies of requests.

use std::time::Duration;

use axum::extract::{FromRequest, OptionalFromRequest, Request};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::ApiError;

/// A body that must be JSON and say that it is: a form of another site cannot. As an option it may be missing.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

/// How NUL is written in JSON; as it is it may not stand in a text.
const NUL: &[u8] = b"\\u0000";

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads JSON without NUL in its texts, which a store may not be able to keep.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let wrong = |error| ApiError::bad_request(format!("the body is wrong: {error}"));
    // What is written so may be a backslash before a text of digits: rare enough to look twice.
    if body.windows(NUL.len()).any(|written| written == NUL)
        && has_nul(&serde_json::from_slice(body).map_err(wrong)?)
    {
        return Err(ApiError::bad_request(
            "the body is wrong: no text may have a NUL character",
        ));
    }
    serde_json::from_slice(body).map_err(wrong)
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    timeout(BODY_TIMEOUT, Bytes::from_request(request, state))
        .await
        .map_err(|_| ApiError::bad_request("the body did not come in time"))?
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "the body is too large",
            ),
            _ => ApiError::bad_request("the body did not come to its end"),
        })
}

fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body must be application/json",
        )),
    }
}

// === impl JsonBody ===

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        is_json(request.headers())?;
        parse(&read(request, state).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        let is_json = is_json(request.headers());
        let body = read(request, state).await?;
        match body.is_empty() {
            true => Ok(None),
            false => is_json
                .and_then(|()| parse(&body))
                .map(|body| Some(Self(body))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
        let body = axum::body::Body::from_stream(futures_util::stream::pending::<
            Result<Bytes, std::io::Error>,
        >());
        let request = Request::post("/").header(CONTENT_TYPE, "application/json");
        let request = request.body(body).unwrap();
        let refused = read(request, &()).await;
        assert_eq!(refused.unwrap_err().status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn no_text_has_a_nul() {
        for wrong in [
            r#""\u0000""#,
            r#"{"a": ["b\u0000"]}"#,
            r#"{"\u0000": 1}"#,
            "\"\0\"",
        ] {
            assert!(parse::<Value>(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let text: String = parse(br#""\\u0000""#).expect("a backslash and digits");
        assert_eq!(text, "\\u0000");
    }
}
