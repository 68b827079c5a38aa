//! What holds for every answer, and who may ask what.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};
use tower_sso::{ClientAddress, CredentialKind, Identity};

use super::{Api, ApiError, PeerAddress};
use crate::telemetry::context;

/// Where people sign out.
const LOGOUT: &str = "/auth/logout";

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// How long browsers come back by TLS only: a year, as RFC 6797 §11.2 and browsers' preload lists have it.
const YEAR: &str = "max-age=31536000";

/// What a request is called in logs: as a proxy in front of us has called it, or by a name of ours.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Says where the client is, to whoever asks the request.
pub(super) async fn locate(State(api): State<Api>, mut request: Request) -> Request {
    if let Some(PeerAddress(peer)) = request.extensions().get() {
        let address = api.proxies.client(peer.ip(), request.headers());
        let id = request.headers().get(REQUEST_ID);
        let id = id.and_then(context::parse_request_id);
        if let Some(id) = id.filter(|_| api.proxies.trusts(peer.ip())) {
            context::set_request(id);
        }
        request.extensions_mut().insert(ClientAddress(address));
    }
    request
}

/// Whether a personal access token was made for this; other credentials are for everything.
pub(super) async fn needs_scope(
    State(scope): State<&'static str>,
    request: Request,
    next: Next,
) -> Response {
    let lacks = |identity: &Arc<Identity>| {
        identity.kind() == CredentialKind::AccessToken
            && !identity.scopes().iter().any(|own| **own == *scope)
    };
    if request.extensions().get().is_some_and(lacks) {
        let message = "this key is not for that";
        return ApiError::new(StatusCode::FORBIDDEN, "insufficient_scope", message).into_response();
    }
    next.run(request).await
}

/// Refuses personal access tokens: somebody must have signed in.
pub(super) async fn needs_person(request: Request, next: Next) -> Response {
    let is_token = |identity: &Arc<Identity>| identity.kind() == CredentialKind::AccessToken;
    if request.extensions().get().is_some_and(is_token) {
        let message = "a key cannot do this; sign in";
        return ApiError::new(StatusCode::FORBIDDEN, "insufficient_scope", message).into_response();
    }
    next.run(request).await
}

/// After signing out nothing of the person stays in the browser: neither what the page has stored there, nor what its
/// service worker has kept (Clear Site Data, W3C, §3.1). The cookie is ended by sign-out itself.
pub(super) async fn forgets_on_logout(request: Request, next: Next) -> Response {
    let is_logout = request.uri().path() == LOGOUT && request.method() == Method::POST;
    let mut response = next.run(request).await;
    let status = response.status();
    if is_logout && (status.is_redirection() || status.is_success()) {
        let data = HeaderValue::from_static("\"cache\", \"storage\"");
        response.headers_mut().insert(CLEAR_SITE_DATA, data);
    }
    response
}

/// What people may know of themselves is nobody else's: no answer is kept on its way, unless it says itself how.
pub(super) async fn private(State(api): State<Api>, mut response: Response) -> Response {
    // So that whoever tells of it can say what it was.
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let id = context::current().filter(|_| is_error);
    let id = id.map(|context| HeaderValue::from_str(&format!("{:032x}", context.request())));
    let headers = response.headers_mut();
    if let Some(Ok(id)) = id {
        headers.insert(REQUEST_ID, id);
    }
    let mut default = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    default(CACHE_CONTROL, "no-store");
    default(X_CONTENT_TYPE_OPTIONS, "nosniff");
    if api.public_url.starts_with("https:") {
        default(STRICT_TRANSPORT_SECURITY, YEAR);
    }
    response
}
