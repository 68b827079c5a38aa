use std::sync::Arc;

use crate::{Reason, TokenError, VerifyError};

/// Gives a refusal the protocol's own form.
///
/// The response type may differ from the inner service's, so that a refusal can have a body of its
/// own: responses that pass are wrapped by [`pass`](Self::pass).
///
/// # Examples
///
/// ```
/// use tower_sso::{Reject, Rejection};
///
/// struct Frame { id: u64 }
/// enum Answer { Done { id: u64 }, Error { id: u64, code: &'static str } }
///
/// #[derive(Clone)]
/// struct FrameReject;
///
/// impl Reject<Frame, Answer> for FrameReject {
///     type Response = Answer;
///
///     fn pass(&self, answer: Answer) -> Answer {
///         answer
///     }
///
///     fn reject(&self, frame: Frame, rejection: Rejection) -> Answer {
///         let code = match rejection {
///             Rejection::Unavailable => "UNAVAILABLE",
///             Rejection::InsufficientScope { .. } | Rejection::Forbidden => "FORBIDDEN",
///             _ => "UNAUTHORIZED",
///         };
///         Answer::Error { id: frame.id, code }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot reject a `{Req}` in place of a `{Res}`",
    label = "not a `Reject<{Req}, {Res}>`",
    note = "`RejectHttp` serves `http::Request` with `http::Response`; other protocols implement \
            `tower_sso::Reject` and give it to `SsoLayer::reject_with`"
)]
pub trait Reject<Req, Res> {
    /// What the service answers with.
    type Response;

    /// Wraps what the inner service answered.
    fn pass(&self, response: Res) -> Self::Response;

    /// Answers in place of the inner service.
    fn reject(&self, request: Req, rejection: Rejection) -> Self::Response;
}

/// Why a request does not reach the inner service.
///
/// What is inside is for metrics and for the protocol's own challenge. The reason a token did not
/// verify must not be told to the client.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Rejection {
    /// The request brings no token.
    MissingToken,
    /// The request brings a token in a wrong way.
    InvalidRequest(TokenError),
    /// The token did not verify.
    InvalidToken(Reason),
    /// The token does not allow this.
    #[non_exhaustive]
    InsufficientScope {
        /// All scopes that are needed, joined by spaces.
        scope: Arc<str>,
    },
    /// The user is in none of the groups, or has none of the roles, that may do this.
    Forbidden,
    /// The token cannot be verified at the moment.
    Unavailable,
}

// === impl Rejection ===

impl From<TokenError> for Rejection {
    fn from(error: TokenError) -> Self {
        Self::InvalidRequest(error)
    }
}

impl From<VerifyError> for Rejection {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Invalid(reason) => Self::InvalidToken(reason),
            VerifyError::Unavailable => Self::Unavailable,
        }
    }
}
