use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;
use tower_sso::Identity;
use utoipa::ToSchema;

use super::{Api, ApiError, rfc3339};

/// Who somebody is.
#[derive(Serialize, ToSchema)]
pub(super) struct UserInfo {
    user_id: Arc<str>,
    email: Option<String>,
    name: Option<String>,
    avatar_url: Option<String>,
    /// The alias of the issuer that they have signed in at.
    provider: String,
    roles: Vec<Box<str>>,
    #[schema(format = DateTime)]
    last_login_at: Option<String>,
}

/// Who the caller is.
#[utoipa::path(
    get,
    path = "/api/user/info",
    responses((status = OK, body = UserInfo, description = "the caller"))
)]
pub(super) async fn info(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<UserInfo>, ApiError> {
    let user = api.store.find_user(identity.user_id()).await;
    let user = user.map_err(|error| ApiError::unavailable("store", &error))?;
    let text = |text: Option<&str>| text.map(str::to_owned);
    Ok(Json(UserInfo {
        user_id: Arc::clone(identity.user_id()),
        email: text(identity.email()),
        name: text(identity.name()),
        avatar_url: text(identity.picture()),
        provider: identity.provider().to_owned(),
        roles: identity.roles().to_vec(),
        last_login_at: user.map(|user| rfc3339(user.last_login_at)),
    }))
}
