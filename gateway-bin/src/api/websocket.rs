use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tower_sso::session::SessionCookie;
use tower_sso::{ClientAddress, Identity, TokenSource, Verify, VerifyError};
use tracing::debug;

use super::{Api, ApiError};
use crate::server::ConnectionPlace;
use crate::socket::{Credential, accept, serve};
use crate::telemetry::context;

/// Opens a socket to OpenClaw, in its gateway's protocol.
///
/// The credential is a bearer token, a session's cookie from a page of an allowed origin, or stands in the first frame, as
/// `connect.params.auth`.
#[utoipa::path(
    get,
    path = "/ws",
    security((), ("token" = []), ("session" = []), ("key" = ["chat"])),
    responses(
        (status = SWITCHING_PROTOCOLS, description = "the socket"),
        (status = UNAUTHORIZED, description = "the bearer token does not hold"),
        (status = FORBIDDEN, description = "the request is of a page of another origin"),
        (status = UPGRADE_REQUIRED, description = "the request is not one to open a WebSocket (RFC 6455 §4.1)"),
        (status = SERVICE_UNAVAILABLE, description = "the gateway is about to end, or sign-in cannot be checked"),
    )
)]
pub(super) async fn upgrade(
    State(api): State<Api>,
    address: Option<Extension<ClientAddress>>,
    place: Option<Extension<ConnectionPlace>>,
    identity: Option<Extension<Arc<Identity>>>,
    mut req: Request<Body>,
) -> Response {
    // Whoever keeps several gateways behind one address sends it to another one: nothing has begun.
    if api.sockets.shutdown.has_begun() {
        let message = "this gateway is about to end; come again";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return ApiError::new(status, "draining", message).into_response();
    }
    let mut identity = identity.map(|Extension(identity)| identity);
    let accepted = match accept(&req) {
        Ok(accepted) => accepted,
        Err(error) => {
            let mut response = ApiError::new(
                StatusCode::UPGRADE_REQUIRED,
                "upgrade_required",
                error.to_string(),
            )
            .into_response();
            response
                .headers_mut()
                .insert("upgrade", http::HeaderValue::from_static("websocket"));
            return response;
        }
    };
    if identity.is_none() && !req.headers().contains_key(AUTHORIZATION) {
        let cookie = match cookie_of(&api, &req) {
            Ok(cookie) => cookie,
            Err(error) => return error.into_response(),
        };
        if let Some(cookie) = cookie {
            identity = match by_cookie(&api, &cookie).await {
                Ok(identity) => identity,
                Err(error) => return error.into_response(),
            };
        }
    }
    let upgraded = hyper::upgrade::on(&mut req);
    let address = address.map(|Extension(ClientAddress(address))| address);
    let (sockets, tasks) = (api.sockets.clone(), api.sockets.tasks);
    // From here on, so that what ends while the socket is opened is heard.
    let credential = identity.map(|identity| Credential::new(identity, Some(api.sign_in)));
    let socket = async move {
        // A socket is one of the connections that a listener takes, signed in or not.
        let _place = place;
        match upgraded.await {
            Ok(io) => {
                serve(sockets, TokioIo::new(io), credential, address).await;
            }
            Err(error) => debug!(%error, "upgrade was not completed"),
        }
    };
    tasks.spawn(context::within(context::current(), socket));
    accepted.map(|()| Body::empty())
}

/// The session cookie, if there is one that can be read. Browsers send it with the upgrade of any page, so the page must be
/// one of ours.
fn cookie_of(api: &Api, req: &Request<Body>) -> Result<Option<String>, ApiError> {
    let cookie = match SessionCookie::new().token(req) {
        Ok(None) => return Ok(None),
        cookie => cookie,
    };
    if !api.origins.allow(req.headers()) {
        let message = "a page of another origin may not open a socket";
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "cross_origin",
            message,
        ));
    }
    Ok(cookie.ok().flatten().map(str::to_owned))
}

/// Whom the session cookie signs in.
///
/// A page whose session is over gets its socket all the same, and there the one answer that its page stops to come back
/// on: a refused upgrade makes it try for ever.
async fn by_cookie(api: &Api, cookie: &str) -> Result<Option<Arc<Identity>>, ApiError> {
    match api.sign_in.tokens().verify(cookie).await {
        Ok(identity) => Ok(Some(identity)),
        Err(VerifyError::Unavailable) => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "sign-in cannot be checked right now",
        )),
        Err(_) => Ok(None),
    }
}
