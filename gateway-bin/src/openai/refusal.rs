use std::borrow::Cow;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

/// An answer that says why not, in the form of OpenAI's errors (its API reference, "Error codes").
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: Cow<'static, str>,
    pub(super) message: Cow<'static, str>,
    /// The member of the request that it is about.
    pub(super) param: Option<String>,
    /// Seconds after which another try is worth it.
    pub(super) retry_after: Option<u64>,
}

/// A [`Refusal`] as it is written.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorAnswer<'a> {
    #[schema(inline)]
    error: ErrorContent<'a>,
}

#[derive(Serialize, ToSchema)]
struct ErrorContent<'a> {
    /// For people.
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    /// The member of the request that it is about. The instance's own refusals do not have it.
    param: Option<&'a str>,
    /// For programs. The instance's own refusals do not have it.
    #[schema(required = false)]
    code: &'a str,
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            param: None,
            retry_after: None,
        }
    }

    /// A member of the request that is not accepted, and what to do instead.
    pub(super) fn of_member(
        param: impl Into<String>,
        code: &'static str,
        what_to_do: impl std::fmt::Display,
    ) -> Self {
        let param = param.into();
        let message = format!("`{param}` is not accepted here: {what_to_do}.");
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, code, message);
        refusal.param = Some(param);
        refusal
    }

    /// Something that is needed does not answer: the same request is worth another try.
    pub(super) fn unavailable(message: &'static str, retry_after: u64) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut refusal = Self::new(status, "unavailable", message);
        refusal.retry_after = Some(retry_after);
        refusal
    }

    /// The error object, as it also stands in a stream.
    pub(super) fn text(&self) -> String {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "api_error",
        };
        let error = ErrorContent {
            message: &self.message,
            kind,
            param: self.param.as_deref(),
            code: &self.code,
        };
        // Texts only: it cannot fail.
        serde_json::to_string(&ErrorAnswer { error }).unwrap_or_default()
    }

    pub(super) fn into_response<B>(self, body: impl FnOnce(Bytes) -> B) -> Response<B> {
        let mut response = Response::new(body(self.text().into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        Refusal::into_response(self, Body::from)
    }
}
