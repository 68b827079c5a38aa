//! Alerts: one's own, and what administrators make of everybody's.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tower_quota::Dimension;
use tower_sso::Identity;
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::JsonBody;
use super::quota::{Amount, amount};
use super::{Api, ApiError, rfc3339};
use crate::audit::Act;
use crate::store::{Alert, AlertState, StoreError};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Of {
    /// `triggered`, `acknowledged` or `resolved`.
    state: Option<String>,
    /// A user id.
    user: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolution {
    /// What there is to say about it: 2,000 bytes at most.
    #[serde(default)]
    note: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Alerts {
    alerts: Vec<ShownAlert>,
}

/// That somebody has used a part of a limit.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShownAlert {
    id: String,
    user: String,
    /// Such as `daily_tokens`.
    limit: String,
    /// The part, in percent.
    threshold: u8,
    #[schema(format = DateTime)]
    window_start: String,
    used: Amount,
    /// What the limit allowed.
    amount: Amount,
    /// `triggered`, `acknowledged` or `resolved`.
    state: &'static str,
    #[schema(format = DateTime)]
    triggered_at: String,
    resolved_by: Option<String>,
    note: Option<String>,
}

/// Longest note, in bytes.
const MAX_NOTE: usize = 2_000;

/// The caller's alerts.
#[utoipa::path(
    get,
    path = "/api/alerts",
    responses((status = OK, body = Alerts, description = "the latest ones"))
)]
pub(super) async fn own(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Alerts>, ApiError> {
    let own = identity.user_id().as_ref().to_owned();
    list(&api, Some(own), None).await
}

/// Everybody's alerts.
#[utoipa::path(
    get,
    path = "/api/admin/alerts",
    params(Of),
    responses((status = OK, body = Alerts, description = "the latest ones that fit"))
)]
pub(super) async fn all(
    State(api): State<Api>,
    of: Result<Query<Of>, QueryRejection>,
) -> Result<Json<Alerts>, ApiError> {
    let Query(of) = of.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let state = match &of.state {
        Some(word) => Some(AlertState::parse(word).ok_or_else(|| {
            ApiError::bad_request("state: must be triggered, acknowledged or resolved")
        })?),
        None => None,
    };
    list(&api, of.user, state).await
}

/// Says that somebody has looked at an alert.
#[utoipa::path(
    post,
    path = "/api/admin/alerts/{id}/acknowledge",
    responses(
        (status = OK, body = ShownAlert, description = "the alert"),
        (status = NOT_FOUND, description = "there is no such alert"),
        (status = CONFLICT, description = "it is resolved already"),
    )
)]
pub(super) async fn acknowledge(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(id): Path<String>,
) -> Result<Json<ShownAlert>, ApiError> {
    become_state(&api, &id, AlertState::Acknowledged, (&admin, &act), None).await
}

/// Says that an alert is done with.
#[utoipa::path(
    post,
    path = "/api/admin/alerts/{id}/resolve",
    request_body = Option<Resolution>,
    responses(
        (status = OK, body = ShownAlert, description = "the alert"),
        (status = NOT_FOUND, description = "there is no such alert"),
    )
)]
pub(super) async fn resolve(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(id): Path<String>,
    body: Option<JsonBody<Resolution>>,
) -> Result<Json<ShownAlert>, ApiError> {
    let resolution = body.map(|JsonBody(sent)| sent).unwrap_or_default();
    if resolution
        .note
        .as_ref()
        .is_some_and(|note| note.len() > MAX_NOTE)
    {
        let message = format!("note: must have {MAX_NOTE} bytes at most");
        return Err(ApiError::bad_request(message));
    }
    let note = resolution.note;
    become_state(&api, &id, AlertState::Resolved, (&admin, &act), note).await
}

async fn become_state(
    api: &Api,
    id: &str,
    to: AlertState,
    (admin, act): (&Identity, &Act),
    note: Option<String>,
) -> Result<Json<ShownAlert>, ApiError> {
    let find = async || {
        let alert = api.store.find_alert(id).await;
        let alert = alert.map_err(|error| down(&error))?;
        alert.ok_or_else(|| {
            let message = "there is no such alert";
            ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
        })
    };
    act.to_user(find().await?.subject);
    let by = admin.user_id().as_ref().to_owned();
    let moved = api.store.move_alert(id, to, by, note, act.with_change());
    if moved.await.map_err(|error| down(&error))? {
        act.is_noted();
    }
    let alert = find().await?;
    if alert.state != to {
        let message = "the alert is resolved already";
        return Err(ApiError::new(StatusCode::CONFLICT, "resolved", message));
    }
    info!(by = %Actor(admin), state = to.as_str(), "an alert was dealt with");
    Ok(Json(shown(&alert)))
}

async fn list(
    api: &Api,
    subject: Option<String>,
    state: Option<AlertState>,
) -> Result<Json<Alerts>, ApiError> {
    let alerts = api.store.alerts(subject, state).await;
    let alerts = alerts.map_err(|error| down(&error))?;
    let alerts = alerts.iter().map(shown).collect();
    Ok(Json(Alerts { alerts }))
}

fn down(error: &StoreError) -> ApiError {
    ApiError::unavailable("store", error)
}

/// An alert as answers and the webhook show it.
pub(crate) fn shown(alert: &Alert) -> ShownAlert {
    let dimension = match alert.alert_type.ends_with("_cost") {
        true => Dimension::Cost,
        false => Dimension::Tokens,
    };
    let (resolved_by, note) = alert.resolved.clone().unzip();
    ShownAlert {
        id: alert.id.clone(),
        user: alert.subject.clone(),
        limit: alert.alert_type.clone(),
        threshold: alert.threshold,
        window_start: rfc3339(alert.window_start),
        used: amount(dimension, alert.used),
        amount: amount(dimension, alert.amount),
        state: alert.state.as_str(),
        triggered_at: rfc3339(alert.triggered_at),
        resolved_by,
        note: note.flatten(),
    }
}
