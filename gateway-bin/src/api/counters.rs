//! Where the counters are, and who counts together in them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tower_sso::Identity;
use tracing::info;
use utoipa::ToSchema;

use super::actor::Actor;
use super::{Api, ApiError};
use crate::audit::Act;

#[derive(Serialize, ToSchema)]
pub(super) struct Counters {
    /// What they are in: `memory`, `redis`, `postgres`.
    store: &'static str,
    /// Whether they say what the ledgers say.
    ready: bool,
    members: Vec<Member>,
}

/// A ledger that is counted with others.
#[derive(Serialize, ToSchema)]
struct Member {
    ledger: String,
    counted: bool,
}

/// Where the counters are, and whose ledgers are counted together in them.
#[utoipa::path(
    get,
    path = "/api/admin/counters",
    responses((status = OK, body = Counters, description = "the counters"))
)]
pub(super) async fn show(State(api): State<Api>) -> Result<Json<Counters>, ApiError> {
    let members = api.seeding.members().await;
    let members = members.map_err(|error| ApiError::unavailable("quota store", &error))?;
    let members = members.into_iter();
    let members = members.map(|(ledger, counted)| Member { ledger, counted });
    Ok(Json(Counters {
        store: api.counters.name(),
        ready: api.counters.is_ready(),
        members: members.collect(),
    }))
}

/// Forgets a ledger: nobody waits for it any more.
#[utoipa::path(
    delete,
    path = "/api/admin/counters/members/{member}",
    responses((status = NO_CONTENT, description = "it is not waited for"))
)]
pub(super) async fn forget(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(member): Path<String>,
) -> Result<StatusCode, ApiError> {
    let members = api.seeding.members().await;
    let members = members.map_err(|error| ApiError::unavailable("quota store", &error))?;
    let known = members.iter().find(|(ledger, _)| *ledger == member);
    act.was(json!({ "counted": known.map(|(_, counted)| counted) }));
    let forgotten = api.seeding.forget(&member).await;
    forgotten.map_err(|error| ApiError::unavailable("quota store", &error))?;
    info!(by = %Actor(&admin), "a ledger is not waited for any more");
    Ok(StatusCode::NO_CONTENT)
}
