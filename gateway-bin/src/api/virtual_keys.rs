//! The keys by which people's agents call models, as administrators renew and end them.

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

use super::actor::Actor;
use super::{Api, ApiError, rfc3339};
use crate::audit::Act;
use crate::environment::EnvironmentError;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// `next` of the answer before.
    after: Option<String>,
    /// Most keys of the answer.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 200, default = 200)]
    limit: usize,
}

#[derive(Serialize, ToSchema)]
pub(super) struct VirtualKeyPage {
    keys: Vec<ShownVirtualKey>,
    /// What to ask for `after` where there are more.
    next: Option<Arc<str>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownVirtualKey {
    user: Arc<str>,
    instance: Option<Arc<str>>,
    agent: Option<Arc<str>>,
    key_id: String,
    #[schema(format = DateTime)]
    created_at: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RotatedKey {
    user: Arc<str>,
    key_id: String,
}

/// Most keys of one answer.
const MAX_LIMIT: usize = 200;

const fn default_limit() -> usize {
    MAX_LIMIT
}

fn refusal(error: EnvironmentError) -> ApiError {
    match error {
        EnvironmentError::InvalidUser(_) => not_found(),
        error => ApiError::unavailable("environment", &error),
    }
}

fn not_found() -> ApiError {
    let message = "this user has no agent, and so no key";
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// The newest virtual key of each user, by user.
///
/// The keys themselves are known to nobody but the instance.
#[utoipa::path(
    get,
    path = "/api/admin/virtual-keys",
    params(Page),
    responses((status = OK, body = VirtualKeyPage, description = "keys"))
)]
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<VirtualKeyPage>, ApiError> {
    let Query(page) = page.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        let message = format!("limit: must be a number from 1 to {MAX_LIMIT}");
        return Err(ApiError::bad_request(message));
    }
    // No user id is empty.
    let after = page.after.unwrap_or_default();
    let keys = api.environments.virtual_keys(&after, page.limit + 1).await;
    let mut keys = keys.map_err(refusal)?;
    let has_more = keys.len() > page.limit;
    keys.truncate(page.limit);
    let next = keys
        .last()
        .filter(|_| has_more)
        .map(|key| Arc::clone(&key.user_id));
    let keys = keys.into_iter().map(|key| {
        let (instance, agent) = key.agent.map(|of| (of.instance, of.agent)).unzip();
        ShownVirtualKey {
            user: key.user_id,
            instance,
            agent,
            key_id: key.key_id,
            created_at: rfc3339(key.created_at),
        }
    });
    let keys = keys.collect();
    Ok(Json(VirtualKeyPage { keys, next }))
}

/// Gives somebody's agent another virtual key; the one before is good for nothing.
#[utoipa::path(
    post,
    path = "/api/admin/users/{user_id}/virtual-key/rotate",
    responses(
        (status = OK, body = RotatedKey, description = "the agent has it"),
        (status = NOT_FOUND, description = "this user has no agent"),
    )
)]
pub(super) async fn rotate(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<Arc<str>>,
) -> Result<Json<RotatedKey>, ApiError> {
    let before = api.store.find_key_of(&user_id).await;
    let before = before.map_err(|error| ApiError::unavailable("store", &error))?;
    act.was(json!({ "keyId": before.map(|row| row.key_id) }));
    let rotated = api.environments.rotate_virtual_key(&user_id).await;
    let key_id = rotated.map_err(refusal)?.ok_or_else(not_found)?;
    act.is_now(json!({ "keyId": key_id }));
    info!(by = %Actor(&admin), key_id, "a virtual key was rotated by an administrator");
    Ok(Json(RotatedKey {
        user: user_id,
        key_id,
    }))
}

/// Revokes somebody's virtual key: their agent calls no model until they come again.
#[utoipa::path(
    delete,
    path = "/api/admin/users/{user_id}/virtual-key",
    responses(
        (status = NO_CONTENT, description = "it is good for nothing"),
        (status = NOT_FOUND, description = "this user has no agent"),
    )
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<Arc<str>>,
) -> Result<StatusCode, ApiError> {
    let revoked = api
        .environments
        .revoke_virtual_keys(&user_id, act.with_change());
    if !revoked.await.map_err(refusal)? {
        return Err(not_found());
    }
    act.is_noted();
    info!(by = %Actor(&admin), "virtual keys were revoked by an administrator");
    Ok(StatusCode::NO_CONTENT)
}
