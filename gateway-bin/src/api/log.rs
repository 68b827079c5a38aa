//! What the gateway logs, for whoever runs it: not for administrators who come by the network.

use std::sync::Arc;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_sso::Identity;
use tracing::warn;
use utoipa::{IntoParams, ToSchema};

use super::ApiError;
use super::actor::Actor;
use super::body::JsonBody;
use crate::audit::Act;
use crate::telemetry::UserHash;
use crate::telemetry::log::{self, LogFilter, LogFilterError};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// A user id.
    user: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLogFilter {
    /// Such as `info,gateway::egress=debug`.
    filter: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct InForce {
    filter: String,
    /// By what the user that was asked about is known in the log.
    user: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct FilterSet {
    filter: String,
    /// What was in force before.
    before: String,
}

/// What is logged: the filter that is in force, and by what a user is known in the log.
#[utoipa::path(
    get,
    path = "/api/admin/log",
    params(Asked),
    responses((status = OK, body = InForce, description = "the filter"))
)]
pub(super) async fn show(
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<InForce>, ApiError> {
    let Query(Asked { user }) = asked.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let hash = user.as_deref().and_then(UserHash::of);
    Ok(Json(InForce {
        filter: in_force()?.as_str().to_owned(),
        user: hash.map(|hash| hash.to_string()),
    }))
}

/// Sets what is logged from now on, until the configuration is read again.
#[utoipa::path(
    put,
    path = "/api/admin/log",
    request_body = NewLogFilter,
    responses((status = OK, body = FilterSet, description = "it is in force"))
)]
pub(super) async fn change(
    Extension(operator): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    JsonBody(NewLogFilter { filter }): JsonBody<NewLogFilter>,
) -> Result<Json<FilterSet>, ApiError> {
    let filter: LogFilter = filter
        .parse()
        .map_err(|error: LogFilterError| ApiError::bad_request(error.to_string()))?;
    let before = in_force()?;
    act.was(json!({ "filter": before.as_str() }));
    log::set_filter(&filter).map_err(|error| ApiError::unavailable("log", &error))?;
    act.is_now(json!({ "filter": filter.as_str() }));
    warn!(by = %Actor(&operator), %before, now = %filter, "another log filter was set");
    Ok(Json(FilterSet {
        filter: filter.as_str().to_owned(),
        before: before.as_str().to_owned(),
    }))
}

fn in_force() -> Result<LogFilter, ApiError> {
    let none = || ApiError::unavailable("log", &LogFilterError::NoLog);
    log::filter().ok_or_else(none)
}
