//! What an administrator may do about people's sign-ins.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_sso::Identity;
use tower_sso::session::{End, Session, StoreError};
use tracing::info;
use utoipa::ToSchema;

use super::actor::Actor;
use super::body::JsonBody;
use super::{Api, ApiError, keys, rfc3339};
use crate::audit::Act;
use crate::store::Link;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLink {
    /// The alias of an issuer that is not the primary one.
    provider: String,
    /// Who they are there.
    #[schema(min_length = 1, max_length = 255)]
    subject: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct SessionsOfUser {
    sessions: Vec<ShownSession>,
}

/// A browser in which somebody has signed in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownSession {
    id: String,
    /// The alias of the issuer.
    provider: String,
    /// What the browser says that it is.
    client: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_seen_at: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Longest subject of a token (OpenID Connect Core 1.0 §2).
const MAX_SUBJECT: usize = 255;

fn store_down(error: &StoreError) -> ApiError {
    ApiError::unavailable("session store", error)
}

/// Disables somebody: they are out at once, with everything they had, and do not get in again.
#[utoipa::path(
    post,
    path = "/api/admin/users/{user_id}/disable",
    responses(
        (status = NO_CONTENT, description = "they are out, also if they never came"),
        (status = CONFLICT, description = "nobody disables themselves"),
    )
)]
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

/// Lets somebody in again.
#[utoipa::path(
    post,
    path = "/api/admin/users/{user_id}/enable",
    responses((status = NO_CONTENT, description = "they may sign in"))
)]
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

/// Where somebody is signed in.
#[utoipa::path(
    get,
    path = "/api/admin/users/{user_id}/sessions",
    responses((status = OK, body = SessionsOfUser, description = "the newest first"))
)]
pub(super) async fn sessions(
    State(api): State<Api>,
    Path(user_id): Path<String>,
) -> Result<Json<SessionsOfUser>, ApiError> {
    let sessions = api.sign_in.sessions().list(&user_id).await;
    let sessions = sessions.map_err(|error| store_down(&error))?;
    let sessions = sessions.iter().map(shown).collect();
    Ok(Json(SessionsOfUser { sessions }))
}

fn shown(session: &Session) -> ShownSession {
    ShownSession {
        id: session.id(),
        provider: session.provider().to_owned(),
        client: session.label().map(str::to_owned),
        created_at: rfc3339(session.created_at()),
        last_seen_at: rfc3339(session.seen_at()),
        expires_at: rfc3339(session.expires_at()),
    }
}

/// Signs somebody out of one session; sockets that were opened with it close.
#[utoipa::path(
    delete,
    path = "/api/admin/users/{user_id}/sessions/{id}",
    responses(
        (status = NO_CONTENT, description = "it has ended"),
        (status = NOT_FOUND, description = "they have no such session"),
    )
)]
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
    act.was(json!(shown(session)));
    let ended = api.sign_in.end(End::Key(session.key())).await;
    ended.map_err(|error| store_down(&error))?;
    info!(by = %Actor(&admin), "a session of somebody was ended");
    Ok(StatusCode::NO_CONTENT)
}

/// Signs somebody out everywhere; personal access tokens end too.
#[utoipa::path(
    delete,
    path = "/api/admin/users/{user_id}/sessions",
    responses((status = NO_CONTENT, description = "all of it has ended"))
)]
pub(super) async fn end_sessions(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let sessions = api.sign_in.sessions().list(&user_id).await;
    let sessions = sessions.map_err(|error| store_down(&error))?;
    let sessions: Vec<_> = sessions.iter().map(shown).collect();
    let tokens = api.sign_in.access_tokens().list(&user_id).await;
    let tokens = tokens.map_err(|error| store_down(&error))?;
    let tokens: Vec<_> = tokens.iter().map(keys::shown).collect();
    act.was(json!({ "sessions": sessions, "keys": tokens }));
    let ended = api.sign_in.end(End::User(user_id.into())).await;
    let ended = ended.map_err(|error| store_down(&error))?;
    act.is_now(json!({ "ended": ended }));
    info!(by = %Actor(&admin), "somebody was signed out everywhere");
    Ok(StatusCode::NO_CONTENT)
}

/// Links somebody of another issuer to a user: they are this user from now on, and have to sign in anew.
#[utoipa::path(
    post,
    path = "/api/admin/users/{user_id}/identities",
    request_body = NewLink,
    responses(
        (status = NO_CONTENT, description = "they are this user"),
        (status = NOT_FOUND, description = "there is no such user"),
    )
)]
pub(super) async fn link(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<String>,
    JsonBody(wanted): JsonBody<NewLink>,
) -> Result<StatusCode, ApiError> {
    if !api.sign_in.is_secondary(&wanted.provider) {
        return Err(ApiError::bad_request(
            "provider: must be the alias of an issuer that is not the primary one",
        ));
    }
    if !(1..=MAX_SUBJECT).contains(&wanted.subject.len()) {
        let message = format!("subject: must have 1 to {MAX_SUBJECT} bytes");
        return Err(ApiError::bad_request(message));
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
