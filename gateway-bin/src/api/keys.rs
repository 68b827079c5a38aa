//! Personal access tokens: for programs and desktop clients of whoever is signed in.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tower_sso::session::{AccessToken, IssueError};
use tower_sso::{CredentialKind, Identity};
use utoipa::ToSchema;

use super::body::JsonBody;
use super::{Api, ApiError, rfc3339};
use crate::sign_in::scope;

/// How long a token is good if nobody says otherwise.
const LIFETIME_DAYS: u32 = 90;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NewKey {
    /// What people call it; the first 100 characters are kept.
    #[schema(min_length = 1)]
    name: String,
    /// `read`, `chat`; all of them unless it is said.
    #[serde(default)]
    scopes: Option<Vec<String>>,
    /// 90 unless it is said.
    #[schema(minimum = 1, maximum = 365)]
    expires_in_days: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
}

/// A personal access token, without the token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Key {
    id: String,
    name: String,
    scopes: Vec<Box<str>>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: String,
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct IssuedKey {
    #[serde(flatten)]
    key: Key,
    /// The token itself.
    token: String,
}

/// The caller's personal access tokens.
#[utoipa::path(
    get,
    path = "/api/keys",
    responses((status = OK, body = Keys, description = "all of them"))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Keys>, ApiError> {
    let keys = api.sign_in.access_tokens().list(identity.user_id()).await;
    let keys = keys.map_err(|error| ApiError::unavailable("session store", &error))?;
    let keys = keys.iter().map(shown).collect();
    Ok(Json(Keys { keys }))
}

/// Makes a personal access token: the only answer that ever holds it.
#[utoipa::path(
    post,
    path = "/api/keys",
    request_body = NewKey,
    responses(
        (status = CREATED, body = IssuedKey, description = "the token"),
        (status = FORBIDDEN, description = "the caller has not signed in in a browser, where that is possible"),
        (status = CONFLICT, description = "the caller has as many as anybody may have"),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    JsonBody(wanted): JsonBody<NewKey>,
) -> Result<(StatusCode, Json<IssuedKey>), ApiError> {
    // A token of the issuer that somebody has got hold of for minutes must not become one for a year. Where nobody can
    // sign in in a browser there is no other way.
    if identity.kind() != CredentialKind::Session && api.sign_in.login().is_some() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "sign_in_needed",
            "sign in in a browser to make a key",
        ));
    }
    let scopes = wanted
        .scopes
        .unwrap_or_else(|| scope::ALL.iter().map(|scope| (*scope).to_owned()).collect());
    if let Some(unknown) = scopes
        .iter()
        .find(|scope| !scope::ALL.contains(&scope.as_str()))
    {
        return Err(ApiError::bad_request(format!(
            "scopes: `{}` is not one of {}",
            unknown.chars().take(32).collect::<String>(),
            scope::ALL.join(", ")
        )));
    }
    let days = wanted.expires_in_days.unwrap_or(LIFETIME_DAYS);
    if !(1..=365).contains(&days) {
        return Err(ApiError::bad_request("expiresInDays must be 1 to 365"));
    }
    let lifetime = Duration::from_secs(u64::from(days) * 86_400);
    let issued = api
        .sign_in
        .access_tokens()
        .issue(&identity, &wanted.name, &scopes, lifetime)
        .await;
    let (secret, key) = issued.map_err(|error| match error {
        IssueError::Store(error) => ApiError::unavailable("session store", &error),
        IssueError::TooMany => ApiError::new(
            StatusCode::CONFLICT,
            "too_many_keys",
            "you have as many keys as anybody may have; revoke one first",
        ),
        error => ApiError::bad_request(error.to_string()),
    })?;
    let issued = IssuedKey {
        key: shown(&key),
        token: secret.as_str().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(issued)))
}

/// Ends a personal access token of the caller's.
#[utoipa::path(
    delete,
    path = "/api/keys/{id}",
    responses(
        (status = NO_CONTENT, description = "it is good for nothing"),
        (status = NOT_FOUND, description = "the caller has no such token"),
    )
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let revoked = api
        .sign_in
        .access_tokens()
        .revoke(identity.user_id(), &id)
        .await;
    match revoked {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "you have no such key",
        )),
        Err(error) => Err(ApiError::unavailable("session store", &error)),
    }
}

/// A token as answers have it, without itself.
pub(super) fn shown(key: &AccessToken) -> Key {
    Key {
        id: key.id().to_owned(),
        name: key.name().to_owned(),
        scopes: key.scopes().to_vec(),
        created_at: rfc3339(key.created_at()),
        expires_at: rfc3339(key.expires_at()),
        last_used_at: key.last_used_at().map(rfc3339),
    }
}
