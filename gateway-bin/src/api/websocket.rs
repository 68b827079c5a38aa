use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tower_sso::Identity;
use tracing::debug;

use super::{Api, ApiError, PeerAddress};
use crate::socket::{accept, serve};

/// `GET /ws`
pub(super) async fn upgrade(
    State(api): State<Api>,
    peer: Option<Extension<PeerAddress>>,
    identity: Option<Extension<Arc<Identity>>>,
    mut req: Request<Body>,
) -> Response {
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
    let upgraded = hyper::upgrade::on(&mut req);
    let address =
        peer.map(|Extension(PeerAddress(peer))| api.proxies.client(peer.ip(), req.headers()));
    let sockets = api.sockets;
    sockets.tasks.clone().spawn(async move {
        match upgraded.await {
            Ok(io) => {
                serve(
                    sockets,
                    TokioIo::new(io),
                    identity.map(|Extension(identity)| identity),
                    address,
                )
                .await;
            }
            Err(error) => debug!(%error, "upgrade was not completed"),
        }
    });
    accepted.map(|()| Body::empty())
}
