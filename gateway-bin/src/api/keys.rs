//! Personal access tokens: for programs and desktop clients of whoever is signed in.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_sso::session::{AccessToken, IssueError};
use tower_sso::{CredentialKind, Identity};

use super::{Api, ApiError, body, rfc3339};
use crate::sign_in::scope;

/// How long a token is good if nobody says otherwise.
const LIFETIME_DAYS: u32 = 90;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NewKey {
    name: String,
    #[serde(default)]
    scopes: Option<Vec<String>>,
    expires_in_days: Option<u32>,
}

/// `GET /api/keys`
pub(super) async fn list(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Value>, ApiError> {
    let keys = api.sign_in.access_tokens().list(identity.user_id()).await;
    let keys = keys.map_err(|error| ApiError::unavailable("session store", &error))?;
    Ok(Json(
        json!({ "keys": keys.iter().map(shown).collect::<Vec<_>>() }),
    ))
}

/// `POST /api/keys`: the only answer that ever holds the token.
pub(super) async fn create(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    // A token of the issuer that somebody has got hold of for minutes must not become one for a year. Where nobody can
    // sign in in a browser there is no other way.
    if identity.kind() != CredentialKind::Session && api.sign_in.login().is_some() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "sign_in_needed",
            "sign in in a browser to make a key",
        ));
    }
    let wanted: NewKey = body::json(&headers, &body)?;
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
    let mut answer = shown(&key);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("token".to_owned(), secret.as_str().into());
    }
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `DELETE /api/keys/{id}`
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
pub(super) fn shown(key: &AccessToken) -> Value {
    json!({
        "id": key.id(),
        "name": key.name(),
        "scopes": key.scopes(),
        "createdAt": rfc3339(key.created_at()),
        "expiresAt": rfc3339(key.expires_at()),
        "lastUsedAt": key.last_used_at().map(rfc3339),
    })
}
