use std::borrow::Cow;

use axum::Json;
use axum::response::{Html, IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::error;
use utoipa::ToSchema;

use crate::cells::CellError;

/// An answer that says why not: `{"error":{"code","message","details"}}`, without internals.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
}

/// What [`ErrorAnswer`] is called in the API's description.
pub(crate) const ERROR_SCHEMA: &str = "Error";

/// Why something was not done.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorAnswer<'a> {
    #[schema(inline)]
    error: ErrorContent<'a>,
}

#[derive(Serialize, ToSchema)]
struct ErrorContent<'a> {
    /// For programs.
    code: &'a str,
    /// For people.
    message: &'a str,
    /// What else there is to say, by name.
    details: Map<String, Value>,
}

/// The code of an answer that says why not, for whoever has the answer in hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorCode(pub(super) &'static str);

/// What a browser shows where there is nothing: OpenClaw's page changes its address to ones that are not ours, and somebody
/// loads them anew.
const NOTHING: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Not found</title>\n\
    <h1>There is nothing here</h1>\n<p><a href=\"/\">To the assistant</a></p>\n</html>\n";

/// It runs nothing and loads nothing.
pub(crate) const NOTHING_RUNS: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The answer to everything that is not a route.
pub(super) async fn not_found(method: Method, headers: HeaderMap) -> Response {
    let mut accepted = headers.get_all(ACCEPT).iter();
    let is_page = accepted.any(|value| value.as_bytes().starts_with(b"text/html"));
    if is_page && (method == Method::GET || method == Method::HEAD) {
        let policy = [(CONTENT_SECURITY_POLICY, NOTHING_RUNS)];
        return (StatusCode::NOT_FOUND, policy, Html(NOTHING)).into_response();
    }
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here").into_response()
}

/// The answer to a route's path with a method that it does not have.
pub(super) async fn method_not_allowed() -> ApiError {
    let message = "this method is not available here";
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}

// === impl ApiError ===

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) const fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    pub(crate) fn forbidden(message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Somebody's cell does not run yet, or cannot.
    pub(crate) fn cell(error: &CellError) -> Self {
        let code = match error {
            CellError::Starting { .. } => "starting",
            _ => "unavailable",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.sentence())
    }

    /// Something that we need does not answer; what, stands in the log.
    pub(crate) fn unavailable(
        what: &'static str,
        cause: &(dyn std::error::Error + 'static),
    ) -> Self {
        error!(what, error = cause, "request failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "try again in a moment",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorContent {
            code: self.code,
            message: &self.message,
            details: Map::new(),
        };
        let mut response = (self.status, Json(ErrorAnswer { error })).into_response();
        response.extensions_mut().insert(ErrorCode(self.code));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}
