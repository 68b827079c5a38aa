//! The instances, as administrators see them and send people to them.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_sso::Identity;
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::{Api, ApiError};
use crate::audit::Act;
use crate::cells::Cells;
use crate::environment::EnvironmentError;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Place {
    /// The instance's name.
    instance: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Instances {
    instances: Vec<ShownInstance>,
}

#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownInstance {
    name: String,
    /// One that is not is shown as long as somebody has a place there.
    configured: bool,
    /// By an administrator, and not in the configuration file.
    added: bool,
    /// `pool` or `cell`.
    mode: Option<&'static str>,
    /// Whose cell it is.
    user: Option<Arc<str>>,
    capacity: u32,
    /// How many people have a place there.
    assigned: u32,
    ready: bool,
    drained: bool,
    /// What has to be changed there before people are sent to it.
    to_be_changed: Vec<String>,
    /// Of a cell that is started when it is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    process: Option<CellProcess>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CellProcess {
    /// `off`, `starting`, `running` or `stopping`.
    status: &'static str,
    pid: Option<i32>,
    /// As which user of the system it runs.
    os_user: Option<u32>,
    /// How many use it.
    uses: usize,
    unused_for_seconds: u64,
    last_failure: Option<Arc<str>>,
}

fn refusal(error: &EnvironmentError) -> ApiError {
    ApiError::unavailable("environment", error)
}

fn not_found(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// Each instance, with whose cell it is or how many people have a place there, and whether people are sent there.
#[utoipa::path(
    get,
    path = "/api/admin/instances",
    responses((status = OK, body = Instances, description = "all of them"))
)]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Instances>, ApiError> {
    let assigned = api.store.assigned().await;
    let mut assigned = assigned.map_err(|error| ApiError::unavailable("store", &error))?;
    let mut instances = Vec::new();
    for upstream in api.environments.upstreams().all() {
        instances.push(ShownInstance {
            name: upstream.name.to_string(),
            configured: true,
            added: api.roster.is_added(&upstream.name),
            mode: Some(if upstream.is_cell() { "cell" } else { "pool" }),
            user: upstream.owner.clone(),
            capacity: upstream.slots,
            assigned: match &upstream.owner {
                Some(_) => 1,
                None => assigned.remove(&*upstream.name).unwrap_or(0),
            },
            ready: upstream.is_ready(),
            drained: upstream.is_drained(),
            to_be_changed: upstream.fitness.unmet(),
            process: None,
        });
    }
    let cells = api.environments.cells().map(Cells::list);
    for cell in cells.unwrap_or_default() {
        let process = Some(CellProcess {
            status: cell.status,
            pid: cell.pid,
            os_user: cell.os_user,
            uses: cell.uses,
            unused_for_seconds: cell.unused_for.as_secs(),
            last_failure: cell.failure,
        });
        let mut listed = instances.iter_mut();
        match listed.find(|instance| *instance.name == *cell.name) {
            Some(instance) => instance.process = process,
            None => instances.push(ShownInstance {
                name: cell.name.to_string(),
                configured: true,
                mode: Some("cell"),
                user: Some(cell.user_id),
                capacity: 1,
                assigned: 1,
                process,
                ..ShownInstance::default()
            }),
        }
    }
    let mut gone: Vec<_> = assigned.into_iter().collect();
    gone.sort();
    instances.extend(gone.into_iter().map(|(name, assigned)| ShownInstance {
        name,
        assigned,
        ..ShownInstance::default()
    }));
    Ok(Json(Instances { instances }))
}

/// Drains an instance: nobody new is sent there.
#[utoipa::path(
    post,
    path = "/api/admin/instances/{name}/drain",
    responses(
        (status = NO_CONTENT, description = "nobody new is sent there"),
        (status = NOT_FOUND, description = "there is no instance of that name"),
    )
)]
pub(super) async fn drain(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    set_drained(&api, (&admin, &act), &name, true).await
}

/// Ends the draining of an instance: people are sent there again.
#[utoipa::path(
    post,
    path = "/api/admin/instances/{name}/resume",
    responses(
        (status = NO_CONTENT, description = "people are sent there"),
        (status = NOT_FOUND, description = "there is no instance of that name"),
    )
)]
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

/// Takes somebody's place on an instance away.
///
/// They are sent where others are who come now, with their files and without the conversations that are there.
#[utoipa::path(
    delete,
    path = "/api/admin/users/{user_id}/assignment",
    params(Place),
    responses(
        (status = NO_CONTENT, description = "they have no place there"),
        (status = NOT_FOUND, description = "they had none"),
    )
)]
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
