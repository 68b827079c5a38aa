//! What an administrator may do about people's sign-ins.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_sso::Identity;
use tower_sso::session::{End, Session, StoreError};
use tracing::info;

use super::actor::Actor;
use super::{Api, ApiError, body, rfc3339};
use crate::audit::Act;
use crate::store::Link;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLink {
    provider: String,
    subject: String,
}

fn store_down(error: &StoreError) -> ApiError {
    ApiError::unavailable("session store", error)
}

/// `POST /api/admin/users/{user_id}/disable`: they are out at once, with everything they had, and do not get in again.
pub(super) async fn disable(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if **admin.user_id() == user_id {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "own_account",
            "you cannot disable yourself",
        ));
    }
    set_disabled(&api, (&admin, &act), &user_id, true).await
}

/// `POST /api/admin/users/{user_id}/enable`
pub(super) async fn enable(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    set_disabled(&api, (&admin, &act), &user_id, false).await
}

async fn set_disabled(
    api: &Api,
    (admin, act): (&Identity, &Act),
    user_id: &str,
    disabled: bool,
) -> Result<StatusCode, ApiError> {
    act.was(json!({ "disabled": api.sign_in.is_disabled(user_id) }));
    let known = api.store.set_disabled(user_id, disabled).await;
    let known = known.map_err(|error| ApiError::unavailable("store", &error))?;
    let set = api.sign_in.set_disabled(user_id, disabled).await;
    set.map_err(|error| store_down(&error))?;
    act.is_now(json!({ "disabled": disabled, "known": known }));
    info!(by = %Actor(admin), disabled, known, "a user was disabled or enabled");
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/admin/users/{user_id}/sessions`
pub(super) async fn sessions(
    State(api): State<Api>,
    Path(user_id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let sessions = api.sign_in.sessions().list(&user_id).await;
    let sessions = sessions.map_err(|error| store_down(&error))?;
    Ok(Json(
        json!({ "sessions": sessions.iter().map(shown).collect::<Vec<_>>() }),
    ))
}

fn shown(session: &Session) -> Value {
    json!({
        "id": session.id(),
        "provider": session.provider(),
        "client": session.label(),
        "createdAt": rfc3339(session.created_at()),
        "lastSeenAt": rfc3339(session.seen_at()),
        "expiresAt": rfc3339(session.expires_at()),
    })
}

/// `DELETE /api/admin/users/{user_id}/sessions/{id}`: ends one, with the sockets that it has opened.
pub(super) async fn end_session(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path((user_id, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let sessions = api.sign_in.sessions().list(&user_id).await;
    let sessions = sessions.map_err(|error| store_down(&error))?;
    let Some(session) = sessions.iter().find(|session| session.id() == id) else {
        let message = "they have no such session";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    act.was(shown(session));
    let ended = api.sign_in.end(End::Key(session.key())).await;
    ended.map_err(|error| store_down(&error))?;
    info!(by = %Actor(&admin), "a session of somebody was ended");
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/admin/users/{user_id}/sessions`: signs somebody out everywhere; personal access tokens end too.
pub(super) async fn end_sessions(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let ended = api.sign_in.end(End::User(user_id.into())).await;
    let ended = ended.map_err(|error| store_down(&error))?;
    act.is_now(json!({ "ended": ended }));
    info!(by = %Actor(&admin), "somebody was signed out everywhere");
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/admin/users/{user_id}/identities`: somebody of another issuer is this user from now on, and has to sign in
/// anew.
pub(super) async fn link(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let wanted: NewLink = body::json(&headers, &body)?;
    if !api.sign_in.is_secondary(&wanted.provider) {
        return Err(ApiError::bad_request(
            "provider: must be the alias of an issuer that is not the primary one",
        ));
    }
    let link = Link::new(wanted.provider, wanted.subject, &*user_id);
    act.to(format_args!("{}|{}", link.provider, link.subject));
    let before = api.sign_in.people().linked(&link.provider, &link.subject);
    act.was(json!({ "user": before }));
    // What they have until now is of who they were: sessions are opened anew, and keys were of a user of their own.
    let own: Arc<str> = format!("{}|{}", link.provider, link.subject).into();
    let ended = [
        End::Subject {
            provider: Arc::clone(&link.provider),
            subject: Arc::clone(&link.subject),
        },
        End::User(own),
    ];
    let linked = api.sign_in.people().link(link, admin.user_id()).await;
    match linked {
        Ok(true) => {
            act.is_now(json!({ "user": user_id }));
            for what in ended {
                let ended = api.sign_in.end(what).await;
                ended.map_err(|error| store_down(&error))?;
            }
            info!(by = %Actor(&admin), "somebody of another issuer was linked to a user");
            Ok(StatusCode::NO_CONTENT)
        }
        Ok(false) => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such user",
        )),
        Err(error) => Err(ApiError::unavailable("store", &error)),
    }
}
