//! Keys of people's own at model providers.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_sso::Identity;
use tracing::info;

use super::actor::Actor;
use super::{Api, ApiError, body};
use crate::audit::Act;
use crate::config::Secret;
use crate::egress::{OwnKeyError, Target};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// The only provider that there is, unless it is said.
    provider: Option<String>,
    key: Secret,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    provider: Option<String>,
}

/// `PUT /api/openclaw/provider-key` with `{provider?, key}`: the caller's model calls at this provider go out with this key
/// from now on. It is never shown again.
pub(super) async fn put(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let wanted: NewKey = body::json(&headers, &body)?;
    let target = target(&api, wanted.provider.as_deref())?;
    if !target.is_key(wanted.key.expose()) {
        return Err(ApiError::bad_request(
            "key: must be the provider's key, of up to 512 visible ASCII characters",
        ));
    }
    let key = wanted.key.expose().as_bytes();
    let put = api
        .own_keys
        .put(identity.user_id(), &target.name, key)
        .await;
    put.map_err(refusal)?;
    info!(
        provider = &*target.name,
        "somebody has a key of their own at a provider"
    );
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/openclaw/provider-key?provider`: the caller's model calls go out with everybody's key again.
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(which) = which.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let target = target(&api, which.provider.as_deref())?;
    let deleted = api.own_keys.delete(identity.user_id(), &target.name).await;
    match deleted.map_err(refusal)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "you have no key of your own at this provider",
        )),
    }
}

/// `POST /api/admin/provider-keys/reseal`: seals anew, under the first master key, what is sealed under another: people's
/// keys, and passwords of instances that were added.
pub(super) async fn reseal(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
) -> Result<Json<Value>, ApiError> {
    let (keys, lost_keys) = api.own_keys.reseal().await.map_err(refusal)?;
    let instances = api.roster.reseal().await;
    let instances = instances.map_err(|error| ApiError::unavailable("key vault", &error));
    let (instances, lost_instances) = instances?;
    let (resealed, lost) = (keys + instances, lost_keys + lost_instances);
    info!(by = %Actor(&admin), resealed, lost, "keys were sealed anew");
    let counts = json!({ "resealed": resealed, "lost": lost });
    act.is_now(counts.clone());
    Ok(Json(counts))
}

fn target<'a>(api: &'a Api, name: Option<&str>) -> Result<&'a Arc<Target>, ApiError> {
    let names = || {
        let names: Vec<&str> = api.targets.iter().map(|target| &*target.name).collect();
        names.join(", ")
    };
    match (name, &*api.targets) {
        (None, [only]) => Ok(only),
        (None, _) => Err(ApiError::bad_request(format!(
            "provider: must be one of {}",
            names()
        ))),
        (Some(name), targets) => {
            let target = targets.iter().find(|target| *target.name == *name);
            target.ok_or_else(|| {
                ApiError::bad_request(format!("provider: must be one of {}", names()))
            })
        }
    }
}

fn refusal(error: OwnKeyError) -> ApiError {
    match error {
        OwnKeyError::NoMasterKey => ApiError::new(
            StatusCode::CONFLICT,
            "no_master_key",
            "keys of people's own cannot be kept here: no master key is configured",
        ),
        error => ApiError::unavailable("key vault", &error),
    }
}
