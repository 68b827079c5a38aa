//! Where the counters are, and who counts together in them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::{Value, json};
use tower_sso::Identity;
use tracing::info;

use super::actor::Actor;
use super::{Api, ApiError};

/// `GET /api/admin/counters`
pub(super) async fn show(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let members = api.seeding.members().await;
    let members = members.map_err(|error| ApiError::unavailable("quota store", &error))?;
    let members = members
        .iter()
        .map(|(name, counted)| json!({ "ledger": name, "counted": counted }));
    Ok(Json(json!({
        "store": api.counters.name(),
        "ready": api.counters.is_ready(),
        "members": members.collect::<Vec<_>>(),
    })))
}

/// `DELETE /api/admin/counters/members/{member}`: nobody waits for this ledger any more.
pub(super) async fn forget(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Path(member): Path<String>,
) -> Result<StatusCode, ApiError> {
    let forgotten = api.seeding.forget(&member).await;
    forgotten.map_err(|error| ApiError::unavailable("quota store", &error))?;
    info!(by = %Actor(&admin), "a ledger is not waited for any more");
    Ok(StatusCode::NO_CONTENT)
}
