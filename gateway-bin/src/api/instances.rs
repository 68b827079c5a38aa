//! The instances, as administrators see them and send people to them.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tower_sso::Identity;
use tracing::info;

use super::actor::Actor;
use super::{Api, ApiError};
use crate::audit::Act;
use crate::cells::Cells;
use crate::environment::EnvironmentError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    instance: String,
}

fn refusal(error: &EnvironmentError) -> ApiError {
    ApiError::unavailable("environment", error)
}

fn not_found(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// `GET /api/admin/instances`: each, with whose cell it is or how many people have a place there, and whether people are
/// sent there. One that is not configured any more is shown as long as somebody has a place there.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let assigned = api.store.assigned().await;
    let mut assigned = assigned.map_err(|error| ApiError::unavailable("store", &error))?;
    let mut instances = Vec::new();
    for upstream in api.environments.upstreams().all() {
        instances.push(json!({
            "name": &*upstream.name,
            "configured": true,
            "added": api.roster.is_added(&upstream.name),
            "mode": if upstream.is_cell() { "cell" } else { "pool" },
            "user": upstream.owner,
            "capacity": upstream.slots,
            "assigned": match &upstream.owner {
                Some(_) => 1,
                None => assigned.remove(&*upstream.name).unwrap_or(0),
            },
            "ready": upstream.is_ready(),
            "drained": upstream.is_drained(),
            "toBeChanged": upstream.fitness.unmet(),
        }));
    }
    let cells = api.environments.cells().map(Cells::list);
    for cell in cells.unwrap_or_default() {
        let process = json!({
            "status": cell.status, "pid": cell.pid, "osUser": cell.os_user, "uses": cell.uses,
            "unusedForSeconds": cell.unused_for.as_secs(), "lastFailure": cell.failure,
        });
        let mut listed = instances.iter_mut();
        match listed.find(|instance| instance["name"] == *cell.name) {
            Some(instance) => instance["process"] = process,
            None => instances.push(json!({
                "name": &*cell.name, "configured": true, "mode": "cell", "user": &*cell.user_id, "capacity": 1,
                "assigned": 1, "ready": false, "drained": false, "toBeChanged": [], "process": process,
            })),
        }
    }
    let mut gone: Vec<_> = assigned.into_iter().collect();
    gone.sort();
    instances.extend(gone.into_iter().map(|(name, assigned)| {
        json!({
            "name": name, "configured": false, "added": false, "mode": null, "user": null, "capacity": 0, "assigned": assigned, "ready": false, "drained": false,
            "toBeChanged": [],
        })
    }));
    Ok(Json(json!({ "instances": instances })))
}

/// `POST /api/admin/instances/{name}/drain`: nobody new is sent there.
pub(super) async fn drain(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    set_drained(&api, (&admin, &act), &name, true).await
}

/// `POST /api/admin/instances/{name}/resume`: people are sent there again.
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    set_drained(&api, (&admin, &act), &name, false).await
}

async fn set_drained(
    api: &Api,
    (admin, act): (&Identity, &Act),
    name: &str,
    is_drained: bool,
) -> Result<StatusCode, ApiError> {
    let set = api
        .environments
        .set_drained(name, is_drained, act.with_change());
    let changed = set.await.map_err(|error| refusal(&error))?;
    match changed {
        None => return Err(not_found("there is no instance of that name")),
        Some(true) => act.is_noted(),
        Some(false) => act.is_now(json!({ "drained": is_drained })),
    }
    info!(by = %Actor(admin), instance = name, is_drained, "an instance was drained or resumed");
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/admin/users/{user_id}/assignment?instance=`: somebody has no place there any more, and is sent where others
/// are who come now, with their files and without the conversations that are there.
pub(super) async fn unassign(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<Arc<str>>,
    place: Result<Query<Place>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(place) = place.map_err(|error| ApiError::bad_request(error.body_text()))?;
    act.to(&place.instance);
    let unassigned = api
        .environments
        .unassign(&user_id, &place.instance, act.with_change());
    let unassigned = unassigned.await;
    if !unassigned.map_err(|error| refusal(&error))? {
        return Err(not_found("this user has no place on that instance"));
    }
    act.is_noted();
    info!(by = %Actor(&admin), instance = place.instance, "somebody's place was taken away");
    Ok(StatusCode::NO_CONTENT)
}
