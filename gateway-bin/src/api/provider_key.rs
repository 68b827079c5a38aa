//! Keys of people's own at model providers.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_sso::Identity;
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::JsonBody;
use super::{Api, ApiError};
use crate::audit::Act;
use crate::config::Secret;
use crate::egress::{OwnKeyError, Target};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewProviderKey {
    /// The only provider that there is, unless it is said.
    provider: Option<String>,
    #[schema(value_type = String, min_length = 1, max_length = 512)]
    key: Secret,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The only provider that there is, unless it is said.
    provider: Option<String>,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
pub(super) struct Resealed {
    resealed: usize,
    /// Those that no master key opens.
    lost: usize,
}

/// Keeps a key of the caller's own at a provider: their model calls there go out with it from now on.
///
/// It is never shown again.
#[utoipa::path(
    put,
    path = "/api/openclaw/provider-key",
    request_body = NewProviderKey,
    responses(
        (status = NO_CONTENT, description = "it is kept, sealed"),
        (status = CONFLICT, description = "no master key is configured"),
    )
)]
pub(super) async fn put(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    JsonBody(wanted): JsonBody<NewProviderKey>,
) -> Result<StatusCode, ApiError> {
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

/// Removes a key of the caller's own: their model calls go out with everybody's key again.
#[utoipa::path(
    delete,
    path = "/api/openclaw/provider-key",
    params(Which),
    responses(
        (status = NO_CONTENT, description = "it is removed"),
        (status = NOT_FOUND, description = "the caller has no key of their own at this provider"),
        (status = CONFLICT, description = "no master key is configured"),
    )
)]
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

/// Seals anew, under the first master key, what is sealed under another: people's keys, and passwords of instances that
/// were added.
#[utoipa::path(
    post,
    path = "/api/admin/provider-keys/reseal",
    responses(
        (status = OK, body = Resealed, description = "how many"),
        (status = CONFLICT, description = "no master key is configured"),
    )
)]
pub(super) async fn reseal(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
) -> Result<Json<Resealed>, ApiError> {
    let (keys, lost_keys) = api.own_keys.reseal().await.map_err(refusal)?;
    let instances = api.roster.reseal().await;
    let instances = instances.map_err(|error| ApiError::unavailable("key vault", &error));
    let (instances, lost_instances) = instances?;
    let (resealed, lost) = (keys + instances, lost_keys + lost_instances);
    info!(by = %Actor(&admin), resealed, lost, "keys were sealed anew");
    let counts = Resealed { resealed, lost };
    act.was(json!({ "sealedUnderAnother": resealed + lost }));
    act.is_now(json!(counts));
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
