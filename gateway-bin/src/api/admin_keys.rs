//! What administrators see of people's personal access tokens, and that they can end them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::json;
use tower_sso::Identity;
use tracing::info;

use super::actor::Actor;
use super::keys::{Keys, shown};
use super::{Api, ApiError};
use crate::audit::Act;

/// Somebody's personal access tokens.
#[utoipa::path(
    get,
    path = "/api/admin/users/{user_id}/keys",
    responses((status = OK, body = Keys, description = "all of them"))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Path(user_id): Path<String>,
) -> Result<Json<Keys>, ApiError> {
    let keys = api.sign_in.access_tokens().list(&user_id).await;
    let keys = keys.map_err(|error| ApiError::unavailable("session store", &error))?;
    let keys = keys.iter().map(shown).collect();
    Ok(Json(Keys { keys }))
}

/// Ends a personal access token of somebody: it opens nothing any more, and sockets that it has opened close.
#[utoipa::path(
    delete,
    path = "/api/admin/users/{user_id}/keys/{id}",
    responses(
        (status = NO_CONTENT, description = "it is good for nothing"),
        (status = NOT_FOUND, description = "they have no such token"),
    )
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path((user_id, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let store_down = |error| ApiError::unavailable("session store", &error);
    let tokens = api.sign_in.access_tokens();
    let held = tokens.list(&user_id).await.map_err(store_down)?;
    if let Some(key) = held.iter().find(|key| key.id() == id) {
        act.was(json!(shown(key)));
    }
    if !tokens.revoke(&user_id, &id).await.map_err(store_down)? {
        let message = "they have no such key";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message));
    }
    info!(by = %Actor(&admin), "somebody's personal access token was revoked");
    Ok(StatusCode::NO_CONTENT)
}
