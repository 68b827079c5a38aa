//! What the gateway logs, for whoever runs it: not for administrators who come by the network.

use std::sync::Arc;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::{Extension, Json};
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tower_sso::Identity;
use tracing::warn;

use super::actor::Actor;
use super::{ApiError, body};
use crate::audit::Act;
use crate::telemetry::UserHash;
use crate::telemetry::log::{self, LogFilter, LogFilterError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    filter: String,
}

/// `GET /api/admin/log?user=`: the filter that is in force, and by what a user is known in the log.
pub(super) async fn show(
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(Asked { user }) = asked.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let hash = user.as_deref().and_then(UserHash::of);
    let hash = hash.map(|hash| hash.to_string());
    Ok(Json(
        json!({ "filter": in_force()?.as_str(), "user": hash }),
    ))
}

/// `PUT /api/admin/log` `{filter}`: what is logged from now on, until the configuration is read again.
pub(super) async fn change(
    Extension(operator): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let Wanted { filter } = body::json(&headers, &body)?;
    let filter: LogFilter = filter
        .parse()
        .map_err(|error: LogFilterError| ApiError::bad_request(error.to_string()))?;
    let before = in_force()?;
    act.was(json!({ "filter": before.as_str() }));
    log::set_filter(&filter).map_err(|error| ApiError::unavailable("log", &error))?;
    act.is_now(json!({ "filter": filter.as_str() }));
    warn!(by = %Actor(&operator), %before, now = %filter, "another log filter was set");
    Ok(Json(
        json!({ "filter": filter.as_str(), "before": before.as_str() }),
    ))
}

fn in_force() -> Result<LogFilter, ApiError> {
    let none = || ApiError::unavailable("log", &LogFilterError::NoLog);
    log::filter().ok_or_else(none)
}
