use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};
use tower_sso::Identity;

use super::{Api, ApiError, rfc3339};

/// `GET /api/user/info`
pub(super) async fn info(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Value>, ApiError> {
    let user = api.store.find_user(identity.user_id()).await;
    let user = user.map_err(|error| ApiError::unavailable("store", &error))?;
    Ok(Json(json!({
        "user_id": &**identity.user_id(),
        "email": identity.email(),
        "name": identity.name(),
        "avatar_url": identity.picture(),
        "provider": identity.provider(),
        "roles": identity.roles(),
        "last_login_at": user.map(|user| rfc3339(user.last_login_at)),
    })))
}
