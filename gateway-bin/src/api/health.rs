use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::Api;
use crate::shipping::Shipping;

/// How long a store may take to answer: whoever asks whether we are ready does not wait long.
const ANSWER: Duration = Duration::from_secs(1);

/// Whether new work would succeed.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// What is wanting: `store`, `session_store`, `quota_store`, `ledger`, `ledger_shipping`, `instance`.
    failing: Vec<&'static str>,
}

/// That the process answers.
#[utoipa::path(get, path = "/health", responses((status = OK, body = String, description = "`OK`")))]
pub(super) async fn healthy() -> &'static str {
    "OK"
}

/// That the process answers.
#[utoipa::path(get, path = "/livez", responses((status = OK, body = String, description = "`OK`")))]
pub(super) async fn alive() -> &'static str {
    "OK"
}

/// Whether new work would succeed, and if not, for want of what. A gateway that ends takes none: `draining`.
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = OK, body = Readiness, description = "it would"),
        (status = SERVICE_UNAVAILABLE, body = Readiness, description = "it would not"),
    )
)]
pub(super) async fn readyz(State(api): State<Api>) -> (StatusCode, Json<Readiness>) {
    let mut failing = Vec::new();
    if api.sockets.shutdown.has_begun() {
        failing.push("draining");
    }
    let (store, sessions) = tokio::join!(
        timeout(ANSWER, api.store.ping()),
        timeout(ANSWER, api.sign_in.ping()),
    );
    if !matches!(store, Ok(Ok(()))) {
        failing.push("store");
    }
    if !matches!(sessions, Ok(Ok(_))) {
        failing.push("session_store");
    }
    if !api.counters.is_ready() {
        failing.push("quota_store");
    }
    if !api.ledger.healthy() {
        failing.push("ledger");
    }
    if !api.shipping.as_ref().is_none_or(Shipping::is_in_time) {
        failing.push("ledger_shipping");
    }
    if !api.environments.is_ready() {
        failing.push("instance");
    }
    let status = if failing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let ready = failing.is_empty();
    (status, Json(Readiness { ready, failing }))
}
