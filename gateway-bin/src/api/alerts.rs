//! Alerts: one's own, and what administrators make of everybody's.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_quota::Dimension;
use tower_sso::Identity;
use tracing::info;

use super::actor::Actor;
use super::quota::amount;
use super::{Api, ApiError, body, rfc3339};
use crate::audit::Act;
use crate::store::{Alert, AlertState, StoreError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    state: Option<String>,
    user: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolution {
    #[serde(default)]
    note: Option<String>,
}

/// Longest note, in bytes.
const MAX_NOTE: usize = 2_000;

/// `GET /api/alerts`
pub(super) async fn own(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Value>, ApiError> {
    let own = identity.user_id().as_ref().to_owned();
    list(&api, Some(own), None).await
}

/// `GET /api/admin/alerts?state=&user=`
pub(super) async fn all(
    State(api): State<Api>,
    of: Result<Query<Of>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(of) = of.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let state = match &of.state {
        Some(word) => Some(AlertState::parse(word).ok_or_else(|| {
            ApiError::bad_request("state: must be triggered, acknowledged or resolved")
        })?),
        None => None,
    };
    list(&api, of.user, state).await
}

/// `POST /api/admin/alerts/{id}/acknowledge`
pub(super) async fn acknowledge(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    become_state(&api, &id, AlertState::Acknowledged, (&admin, &act), None).await
}

/// `POST /api/admin/alerts/{id}/resolve` with `{note?}`
pub(super) async fn resolve(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let resolution: Resolution = match body.is_empty() {
        true => Resolution::default(),
        false => body::json(&headers, &body)?,
    };
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
) -> Result<Json<Value>, ApiError> {
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
) -> Result<Json<Value>, ApiError> {
    let alerts = api.store.alerts(subject, state).await;
    let alerts = alerts.map_err(|error| down(&error))?;
    let alerts: Vec<Value> = alerts.iter().map(shown).collect();
    Ok(Json(json!({ "alerts": alerts })))
}

fn down(error: &StoreError) -> ApiError {
    ApiError::unavailable("store", error)
}

/// An alert as answers and the webhook show it.
pub(crate) fn shown(alert: &Alert) -> Value {
    let dimension = match alert.alert_type.ends_with("_cost") {
        true => Dimension::Cost,
        false => Dimension::Tokens,
    };
    json!({
        "id": alert.id,
        "user": alert.subject,
        "limit": alert.alert_type,
        "threshold": alert.threshold,
        "windowStart": rfc3339(alert.window_start),
        "used": amount(dimension, alert.used),
        "amount": amount(dimension, alert.amount),
        "state": alert.state.as_str(),
        "triggeredAt": rfc3339(alert.triggered_at),
        "resolvedBy": alert.resolved.as_ref().map(|(by, _)| by),
        "note": alert.resolved.as_ref().and_then(|(_, note)| note.as_ref()),
    })
}
