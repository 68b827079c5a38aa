//! Instances that administrators add to those of the configuration file, and remove.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
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
use crate::config::Instance;
use crate::instance::RosterError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    #[serde(default)]
    force: bool,
}

/// `POST /api/admin/instances` with what stands below `[[instance]]` in the configuration file, in JSON: people are sent
/// there from now on, by every gateway that shares the store.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let instance: Instance = body::json(&headers, &body)?;
    let by = Actor(&admin).to_string();
    let name = instance.name.clone();
    act.to(&name);
    let added = api.roster.add(&instance, &body, act.with_change()).await;
    done(added)?;
    act.is_noted();
    info!(by, instance = name, "an instance was added");
    Ok((StatusCode::CREATED, Json(json!({ "name": name }))))
}

/// `DELETE /api/admin/instances/{name}?force`: what is open to it is closed, and nobody is sent there. Refused while somebody
/// has a place there, unless it is forced: they keep it, and are told to wait, in case the instance comes again.
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
