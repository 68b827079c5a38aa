//! What there was of somebody at a time, as administrators take and read it.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_sso::Identity;
use tracing::info;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::actor::Actor;
use super::users::not_found;
use super::{Api, ApiError};
use crate::audit::Act;
use crate::snapshots::{ShownSnapshot, shown};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// `next` of the answer before.
    #[param(format = "uuid")]
    after: Option<String>,
    /// Most snapshots of the answer.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 200, default = 200)]
    limit: usize,
}

#[derive(Serialize, ToSchema)]
pub(super) struct SnapshotPage {
    snapshots: Vec<ShownSnapshot>,
    /// What to ask for `after` where there are more.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TakenSnapshots {
    snapshots: Vec<ShownSnapshot>,
}

/// Most snapshots of one answer.
const MAX_LIMIT: usize = 200;

const fn default_limit() -> usize {
    MAX_LIMIT
}

/// Somebody's snapshots, the latest first.
#[utoipa::path(
    get,
    path = "/api/admin/users/{user_id}/snapshots",
    params(Page),
    responses(
        (status = OK, body = SnapshotPage, description = "snapshots"),
        (status = NOT_FOUND, description = "there is no such user"),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Path(user_id): Path<Arc<str>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<SnapshotPage>, ApiError> {
    let Query(page) = page.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        let message = format!("limit: must be a number from 1 to {MAX_LIMIT}");
        return Err(ApiError::bad_request(message));
    }
    let is_id = |after: &String| after.parse::<Uuid>().is_ok();
    if !page.after.iter().all(is_id) {
        return Err(ApiError::bad_request("after: must be the id of a snapshot"));
    }
    let store_down = |error| ApiError::unavailable("store", &error);
    let user = api.store.find_user(&user_id).await.map_err(store_down)?;
    user.ok_or_else(not_found)?;
    let after = page.after.unwrap_or_default();
    let listed = api.snapshots.list(&user_id, &after, page.limit + 1).await;
    let mut listed = listed.map_err(store_down)?;
    let has_more = listed.len() > page.limit;
    listed.truncate(page.limit);
    let next = listed.last().filter(|_| has_more);
    let next = next.map(|snapshot| snapshot.id.clone());
    let snapshots = listed.iter().map(shown).collect();
    Ok(Json(SnapshotPage { snapshots, next }))
}

/// Takes a snapshot of everything of somebody, now.
#[utoipa::path(
    post,
    path = "/api/admin/users/{user_id}/snapshots",
    responses(
        (status = CREATED, body = TakenSnapshots, description = "one of each type"),
        (status = NOT_FOUND, description = "there is no such user"),
    )
)]
pub(super) async fn take(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<Arc<str>>,
) -> Result<(StatusCode, Json<TakenSnapshots>), ApiError> {
    let store_down = |error| ApiError::unavailable("store", &error);
    let user = api.store.find_user(&user_id).await.map_err(store_down)?;
    user.ok_or_else(not_found)?;
    let taken = api.snapshots.take(&user_id).await;
    let taken = taken.map_err(|error| ApiError::unavailable("snapshot", &error))?;
    if taken.is_empty() {
        // They are being deleted, or were.
        return Err(not_found());
    }
    let ids: Vec<_> = taken.iter().map(|snapshot| &*snapshot.id).collect();
    act.is_now(json!({ "snapshots": ids }));
    info!(by = %Actor(&admin), "a snapshot of a user was taken");
    let snapshots = taken.iter().map(shown).collect();
    Ok((StatusCode::CREATED, Json(TakenSnapshots { snapshots })))
}
