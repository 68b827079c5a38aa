//! Instances that administrators add to those of the configuration file, and remove.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tower_sso::Identity;
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::{self, JsonBody};
use super::input::MAX_NAME;
use super::{Api, ApiError};
use crate::audit::Act;
use crate::config::Instance;
use crate::instance::RosterError;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Also if somebody has a place there.
    #[serde(default)]
    force: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct AddedInstance {
    name: String,
}

/// Adds an instance: people are sent there from now on, by every gateway that shares the store.
#[utoipa::path(
    post,
    path = "/api/admin/instances",
    request_body(
        content = Object,
        description = "what stands below `[[instance]]` in the configuration file, in JSON"
    ),
    responses(
        (status = CREATED, body = AddedInstance, description = "it is added"),
        (status = CONFLICT, description = "there is one of that name, or no master key seals its password"),
    )
)]
pub(super) async fn add(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    JsonBody(written): JsonBody<Box<RawValue>>,
) -> Result<(StatusCode, Json<AddedInstance>), ApiError> {
    let written = written.get().as_bytes();
    let instance: Instance = body::parse(written)?;
    if instance.name.len() > MAX_NAME {
        let message = format!("name: must have {MAX_NAME} bytes at most");
        return Err(ApiError::bad_request(message));
    }
    let by = Actor(&admin).to_string();
    let name = instance.name.clone();
    act.to(&name);
    let added = api.roster.add(&instance, written, act.with_change()).await;
    done(added)?;
    act.is_noted();
    info!(by, instance = name, "an instance was added");
    Ok((StatusCode::CREATED, Json(AddedInstance { name })))
}

/// Removes an instance that was added: what is open to it is closed, and nobody is sent there.
///
/// Refused while somebody has a place there, unless it is forced: they keep it, and are told to wait, in case the instance
/// comes again.
#[utoipa::path(
    delete,
    path = "/api/admin/instances/{name}",
    params(How),
    responses(
        (status = NO_CONTENT, description = "it is removed"),
        (status = NOT_FOUND, description = "there is no instance of that name"),
        (status = CONFLICT, description = "it stands in the configuration file, or somebody has a place there"),
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(name): Path<String>,
    how: Result<Query<How>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(how) = how.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let by = Actor(&admin).to_string();
    let removed = api.roster.remove(&name, how.force, act.with_change()).await;
    done(removed)?;
    act.is_noted();
    info!(by, instance = name, "an instance was removed");
    Ok(StatusCode::NO_CONTENT)
}

fn done(outcome: Result<(), RosterError>) -> Result<(), ApiError> {
    outcome.map_err(|error| {
        let message = error.to_string();
        let conflict = |code| ApiError::new(StatusCode::CONFLICT, code, message.clone());
        match error {
            RosterError::Invalid(_) => ApiError::bad_request(message),
            RosterError::Taken(_) => conflict("taken"),
            RosterError::InFile => conflict("in_file"),
            RosterError::InUse(_) => conflict("in_use"),
            RosterError::NoMasterKey => conflict("no_master_key"),
            RosterError::Unknown => ApiError::new(StatusCode::NOT_FOUND, "not_found", message),
            error => ApiError::unavailable("instances", &error),
        }
    })
}
