//! Everybody who is here, as administrators list and delete them.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_sso::Identity;
use tower_sso::session::End;
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
    /// Most people of the answer.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 200, default = 200)]
    limit: usize,
}

#[derive(Serialize, ToSchema)]
pub(super) struct UserPage {
    users: Vec<ShownUser>,
    /// What to ask for `after` where there are more.
    next: Option<Arc<str>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownUser {
    user: Arc<str>,
    /// The alias of the issuer that they have signed in at.
    provider: String,
    email: Option<String>,
    name: Option<String>,
    disabled: bool,
    being_deleted: bool,
    /// Their agent, if they have one.
    agent: Option<String>,
    #[schema(format = DateTime)]
    last_login_at: String,
}

/// Most people of one answer.
const MAX_LIMIT: usize = 200;

const fn default_limit() -> usize {
    MAX_LIMIT
}

pub(super) fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such user")
}

/// Everybody, by user id.
#[utoipa::path(
    get,
    path = "/api/admin/users",
    params(Page),
    responses((status = OK, body = UserPage, description = "people"))
)]
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<UserPage>, ApiError> {
    let Query(page) = page.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        let message = format!("limit: must be a number from 1 to {MAX_LIMIT}");
        return Err(ApiError::bad_request(message));
    }
    // No user id is empty.
    let after = page.after.unwrap_or_default();
    let users = api.store.list_users(&after, page.limit + 1).await;
    let mut users = users.map_err(|error| ApiError::unavailable("store", &error))?;
    let has_more = users.len() > page.limit;
    users.truncate(page.limit);
    let next = users.last().filter(|_| has_more);
    let next = next.map(|user| Arc::clone(&user.user_id));
    let users = users.into_iter().map(|user| ShownUser {
        user: user.user_id,
        provider: user.provider,
        email: user.email,
        name: user.name,
        disabled: user.disabled,
        being_deleted: user.is_being_deleted,
        agent: user.agent_id,
        last_login_at: rfc3339(user.last_login_at),
    });
    let users = users.collect();
    Ok(Json(UserPage { users, next }))
}

/// Deletes somebody.
///
/// They are out at once, and what they had is removed: directory, agent, conversations, keys, what their issuer says of
/// them. What is left is their id in the books. Whoever comes with that id from then on is new. If it fails, they stay out,
/// and the same request goes on from there.
#[utoipa::path(
    delete,
    path = "/api/admin/users/{user_id}",
    responses(
        (status = NO_CONTENT, description = "they are gone"),
        (status = NOT_FOUND, description = "there is no such user"),
        (status = CONFLICT, description = "nobody deletes themselves"),
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<Arc<str>>,
) -> Result<StatusCode, ApiError> {
    if admin.user_id() == &user_id {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "own_account",
            "you cannot delete yourself",
        ));
    }
    let by = Actor(&admin).to_string();
    let row = api.store.find_environment(&user_id).await;
    let row = row.map_err(|error| ApiError::unavailable("store", &error))?;
    act.was(json!({
        "instance": row.as_ref().map(|row| &row.instance),
        "agent": row.as_ref().map(|row| &row.agent_id),
    }));
    delete_to_the_end(&api, &user_id, &by).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_to_the_end(api: &Api, user_id: &Arc<str>, by: &str) -> Result<(), ApiError> {
    let store_down = |error| ApiError::unavailable("store", &error);
    let sessions_down = |error| ApiError::unavailable("session store", &error);
    if !api
        .store
        .begin_deletion(user_id)
        .await
        .map_err(store_down)?
    {
        return Err(not_found());
    }
    info!(by, "deletion of a user begins");
    // Nobody makes anew what is being removed.
    let out = api.sign_in.set_disabled(user_id, true).await;
    out.map_err(sessions_down)?;
    let ended = api.sign_in.end(End::User(Arc::clone(user_id))).await;
    ended.map_err(sessions_down)?;
    for provider in api.own_keys.providers_of(user_id) {
        let deleted = api.own_keys.delete(user_id, &provider).await;
        deleted.map_err(|error| ApiError::unavailable("store", &error))?;
    }
    let removed = api.environments.remove(user_id).await;
    removed.map_err(|error| match error {
        EnvironmentError::InvalidUser(_) => not_found(),
        error => ApiError::unavailable("environment", &error),
    })?;
    let is_kept_out = api.store.finish_deletion(user_id).await;
    let is_kept_out = is_kept_out.map_err(store_down)?;
    api.sign_in.people().forget(user_id);
    if !is_kept_out {
        let again = api.sign_in.set_disabled(user_id, false).await;
        again.map_err(sessions_down)?;
    }
    info!(by, "a user was deleted");
    Ok(())
}
