use http::StatusCode;

/// An error a provider answers an authorization request with (RFC 6749 section 4.1.2.1, OpenID
/// Connect Core section 3.1.2.6), as one of those that are known. What it says besides is not shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProviderError {
    AccessDenied,
    Unavailable,
    ServerError,
    InvalidRequest,
    UnauthorizedClient,
    UnsupportedResponseType,
    InvalidScope,
    InteractionRequired,
    Other,
}

// === impl ProviderError ===

impl ProviderError {
    pub(super) fn parse(code: &str) -> Self {
        match code {
            "access_denied" => Self::AccessDenied,
            "temporarily_unavailable" => Self::Unavailable,
            "server_error" => Self::ServerError,
            "invalid_request" => Self::InvalidRequest,
            "unauthorized_client" => Self::UnauthorizedClient,
            "unsupported_response_type" => Self::UnsupportedResponseType,
            "invalid_scope" => Self::InvalidScope,
            "interaction_required"
            | "login_required"
            | "account_selection_required"
            | "consent_required" => Self::InteractionRequired,
            _ => Self::Other,
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::AccessDenied => StatusCode::FORBIDDEN,
            Self::Unavailable | Self::ServerError => StatusCode::SERVICE_UNAVAILABLE,
            Self::InteractionRequired => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::Unavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
            Self::InvalidRequest => "provider_invalid_request",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::InteractionRequired => "interaction_required",
            Self::Other => "provider_error",
        }
    }

    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::AccessDenied => "The sign-in was cancelled, or you may not use this application.",
            Self::Unavailable | Self::ServerError => {
                "The sign-in provider has a problem at the moment. Try again in a little while."
            }
            Self::InteractionRequired => "The sign-in provider wants to ask you something first.",
            Self::InvalidRequest
            | Self::UnauthorizedClient
            | Self::UnsupportedResponseType
            | Self::InvalidScope
            | Self::Other => {
                "The sign-in provider does not accept the request. Tell whoever runs this server."
            }
        }
    }
}
