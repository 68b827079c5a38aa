//! Sign-in in browsers, which [`LoginService`] does. Here stands what its routes are.

use axum::Extension;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use tower_sso::login::LoginService;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the service reads them; this describes them")]
pub(super) struct BeginQuery {
    /// The alias of the provider to sign in with. Without it a page lists all, or the browser goes to the only one.
    provider: Option<String>,
    /// Where the browser goes when it has signed in: a path, or an address of an allowed origin.
    return_to: Option<String>,
}

/// What a provider sends along (RFC 6749 §4.1.2, RFC 9207 §2).
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the service reads them; this describes them")]
pub(super) struct CallbackQuery {
    /// Which sign-in it is of.
    state: String,
    /// What the provider gives the sign-in's tokens for; this, or `error`.
    code: Option<String>,
    /// Why there is none.
    error: Option<String>,
    /// Who the provider is.
    iss: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the service reads it; this describes it")]
pub(super) struct LogoutToken {
    /// A token that the provider has signed.
    logout_token: String,
}

/// Why nobody was signed out (OpenID Connect Back-Channel Logout 1.0 §2.8).
#[derive(Serialize, ToSchema)]
pub(super) struct LogoutError {
    error: String,
}

/// Where the browser is to go.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedOut {
    redirect: String,
}

type Answer = Response<Full<Bytes>>;

/// Begins a sign-in.
///
/// Failures are pages for who asks for `text/html`.
#[utoipa::path(
    get,
    path = "/auth/login",
    params(BeginQuery),
    responses(
        (status = OK, content_type = "text/html", body = String, description = "a page with all providers, to choose from"),
        (status = SEE_OTHER, description = "to the provider"),
        (status = TOO_MANY_REQUESTS, description = "too many sign-ins from the caller's address"),
        (status = SERVICE_UNAVAILABLE, description = "the provider does not answer"),
    )
)]
pub(super) async fn begin(login: Extension<LoginService>, request: Request) -> Answer {
    serve(login, request).await
}

/// Ends a sign-in: where the provider sends the browser back.
///
/// Failures are pages for who asks for `text/html`.
#[utoipa::path(
    get,
    path = "/auth/callback",
    params(CallbackQuery),
    responses(
        (status = SEE_OTHER, description = "signed in, by a cookie; to where the sign-in was to lead"),
        (status = FORBIDDEN, description = "the person may not sign in here, or does not want to"),
        (status = TOO_MANY_REQUESTS, description = "too many sign-ins from the caller's address"),
        (status = BAD_GATEWAY, description = "the provider does not accept this gateway"),
        (status = SERVICE_UNAVAILABLE, description = "the provider or the session store does not answer"),
    )
)]
pub(super) async fn call_back(login: Extension<LoginService>, request: Request) -> Answer {
    serve(login, request).await
}

/// Signs out, here and at the provider.
///
/// Failures are pages for who asks for `text/html`.
#[utoipa::path(
    post,
    path = "/auth/logout",
    responses(
        (status = OK, body = SignedOut, description = "signed out; for scripts, and who asks for `application/json`"),
        (status = SEE_OTHER, description = "signed out; to the provider, or to `/auth/signed-out`"),
        (status = FORBIDDEN, description = "the request is not from a page of an allowed origin"),
        (status = SERVICE_UNAVAILABLE, description = "the session store does not answer"),
    )
)]
pub(super) async fn log_out(login: Extension<LoginService>, request: Request) -> Answer {
    serve(login, request).await
}

/// A page that says that the browser is signed out.
#[utoipa::path(
    get,
    path = "/auth/signed-out",
    responses((status = OK, content_type = "text/html", body = String, description = "the page"))
)]
pub(super) async fn signed_out(login: Extension<LoginService>, request: Request) -> Answer {
    serve(login, request).await
}

/// A provider says that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0).
#[utoipa::path(
    post,
    path = "/auth/backchannel-logout",
    request_body(content = LogoutToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = OK, description = "the sessions are over"),
        (status = BAD_REQUEST, body = LogoutError, description = "the token does not hold, or was used before"),
        (status = PAYLOAD_TOO_LARGE, body = LogoutError, description = "the body is too large"),
        (status = SERVICE_UNAVAILABLE, body = LogoutError, description = "the provider or the session store does not answer"),
    )
)]
pub(super) async fn back_channel(login: Extension<LoginService>, request: Request) -> Answer {
    serve(login, request).await
}

async fn serve(Extension(login): Extension<LoginService>, request: Request<Body>) -> Answer {
    let answer = login.oneshot(request).await;
    answer.unwrap_or_else(|never| match never {})
}
