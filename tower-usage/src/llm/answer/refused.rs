use http::StatusCode;

use super::{error_name::ErrorName, wire::Answer};

/// What a provider refused with, for a service that answers in its place.
///
/// Put into the extensions of that answer, it is what [`UsageRecord::metadata`](crate::UsageRecord::metadata) says of the
/// call, in place of what is answered. A gateway that uses a key of its own does not tell its clients that the key was
/// refused (401, which they would take for theirs), and yet wants to know.
///
/// # Examples
///
/// ```
/// # use http::{Response, StatusCode};
/// # use tower_usage::llm::Refused;
/// let body = br#"{"error":{"message":"no","type":"invalid_request_error","code":"invalid_api_key"}}"#;
/// let mut answer = Response::new("The provider refused the gateway.");
/// *answer.status_mut() = StatusCode::BAD_GATEWAY;
/// answer.extensions_mut().insert(Refused::new(StatusCode::UNAUTHORIZED, body));
/// ```
#[derive(Clone, Debug)]
pub struct Refused {
    pub(super) status: StatusCode,
    pub(super) error: Option<ErrorName>,
}

// === impl Refused ===

impl Refused {
    /// A refusal with this status, and with this body, or the beginning of it: of it only the name of the error is kept.
    #[must_use]
    pub fn new(status: StatusCode, body: &[u8]) -> Self {
        let error = Answer::read(body).and_then(|answer| answer.error_name());
        Self { status, error }
    }
}
