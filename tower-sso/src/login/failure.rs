use std::error::Error;

use http::StatusCode;

use super::provider_error::ProviderError;
use crate::session::StoreError;

/// Why a request is not answered as it wants: a closed set, so that nothing of what came from outside
/// is ever shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    NotFound,
    /// The method, of which only this one is allowed.
    Method(&'static str),
    Malformed,
    ReturnTo,
    UnknownProvider,
    /// No sign-in under way is the one that this callback ends.
    NotPending,
    /// A logout from elsewhere.
    CrossOrigin,
    TooLarge,
    /// The provider says no.
    Provider(ProviderError),
    /// What the provider gave does not hold.
    Untrusted,
    /// The provider does not let this server in.
    Misconfigured,
    ProviderUnavailable,
    /// Whoever decides about the user says no.
    Refused,
    StoreUnavailable,
    Internal,
}

// === impl Failure ===

impl Failure {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed
            | Self::ReturnTo
            | Self::UnknownProvider
            | Self::NotPending
            | Self::Untrusted => StatusCode::BAD_REQUEST,
            Self::CrossOrigin | Self::Refused => StatusCode::FORBIDDEN,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Provider(error) => error.status(),
            Self::Misconfigured => StatusCode::BAD_GATEWAY,
            Self::ProviderUnavailable | Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The store cannot do it.
    pub(super) fn of_store(error: &StoreError) -> Self {
        tracing::error!(
            error = error as &(dyn Error + 'static),
            "a sign-in or a logout was not kept"
        );
        Self::StoreUnavailable
    }

    /// The code for programs.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Method(_) => "method_not_allowed",
            Self::Malformed => "invalid_request",
            Self::ReturnTo => "invalid_return_to",
            Self::UnknownProvider => "unknown_provider",
            Self::NotPending => "sign_in_expired",
            Self::CrossOrigin => "cross_origin",
            Self::TooLarge => "too_large",
            Self::Provider(error) => error.code(),
            Self::Untrusted => "sign_in_failed",
            Self::Misconfigured => "provider_misconfigured",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::Refused => "sign_in_refused",
            Self::StoreUnavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The sentence for people.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::NotFound => "There is nothing here.",
            Self::Method(_) => "This cannot be done in this way.",
            Self::Malformed => "The request is not one that can be understood.",
            Self::ReturnTo => "The address to return to is not one of this site.",
            Self::UnknownProvider => "There is no such sign-in provider.",
            Self::NotPending => {
                "This sign-in was not begun in this browser, took too long, or was used already."
            }
            Self::CrossOrigin => "Only this site itself can sign you out.",
            Self::TooLarge => "The request is too large.",
            Self::Provider(error) => error.message(),
            Self::Untrusted => "The sign-in could not be verified.",
            Self::Misconfigured => {
                "The sign-in provider does not accept this server. Tell whoever runs it."
            }
            Self::ProviderUnavailable => {
                "The sign-in provider does not answer at the moment. Try again in a little while."
            }
            Self::Refused => "You may not sign in here.",
            Self::StoreUnavailable => {
                "Signing in is not possible at the moment. Try again in a little while."
            }
            Self::Internal => "Something went wrong.",
        }
    }

    /// After how many seconds it may be tried again, if waiting helps.
    pub(super) const fn retry_after(self) -> Option<&'static str> {
        match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => Some("10"),
            _ => None,
        }
    }

    /// Whether signing in again may help.
    pub(super) const fn is_about_sign_in(self) -> bool {
        !matches!(
            self,
            Self::NotFound | Self::Method(_) | Self::CrossOrigin | Self::TooLarge
        )
    }
}
