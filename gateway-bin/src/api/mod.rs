//! The API plane: what people and their programs ask over HTTP.

mod error;
mod health;
mod openclaw;
mod quota;
mod usage;
mod user;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, HeaderValue};
use tower_quota::{Limits, QuotaStore};
use tower_usage::sqlite::SqliteLedger;

pub use self::error::ApiError;
use crate::client_address::TrustedProxies;
use crate::environment::Environments;
use crate::password::Passwords;
use crate::socket::Sockets;
use crate::stack::Parts;
use crate::store::Store;

/// What the handlers work with; clones share it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Api {
    /// The gateway's own state.
    pub store: Store,
    /// Where people work.
    pub environments: Environments,
    /// Gateway passwords.
    pub passwords: Passwords,
    /// Counters.
    pub quota: Arc<dyn QuotaStore>,
    /// Everybody's plan.
    pub plan: Limits,
    /// All records.
    pub ledger: Arc<SqliteLedger>,
    /// Name of the instance.
    pub instance: Arc<str>,
    /// Where browsers reach us.
    pub public_url: Arc<str>,
    /// Whose word on a client's address counts.
    pub proxies: TrustedProxies,
    /// What sockets are served with.
    pub sockets: Sockets,
}

/// The routes of the public listener.
pub fn public(api: Api, layers: &Parts) -> Router {
    let in_workspace = Router::new()
        .route("/api/openclaw/credentials", get(openclaw::credentials))
        .route("/api/openclaw/status", get(openclaw::status))
        .layer(layers.workspace());
    let signed_in = Router::new()
        .route("/api/user/info", get(user::info))
        .route("/api/openclaw/initialize", post(openclaw::initialize))
        .route("/api/quota", get(quota::standing))
        .route("/api/usage", get(usage::totals))
        .route("/api/usage/records", get(usage::records))
        .merge(in_workspace)
        .layer(layers.sign_in());
    // A socket's credential may come in its first frame.
    let socket = Router::new()
        .route("/ws", get(websocket::upgrade))
        .layer(layers.sign_in().optional());
    signed_in
        .merge(socket)
        .merge(health::routes())
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(map_response(no_store))
        .with_state(api)
}

/// The routes of the admin listener.
pub fn admin(api: Api, metrics: metrics_exporter_prometheus::PrometheusHandle) -> Router {
    let metrics = get(move || std::future::ready(metrics.render()));
    Router::new()
        .route("/metrics", metrics)
        .merge(health::routes().with_state(api))
}

/// What people may know of themselves is nobody else's: no answer is kept on its way.
async fn no_store(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Address of who connected, put into requests by the listener.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// A time as APIs write it.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    // Whole seconds; a reset is never in between.
    jiff::Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}
