use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use serde::Deserialize;
use serde_json::{Value, json};
use tower_quota::{Allowance, Dimension, Limit, Limits, Window};
use tower_sso::Identity;
use tower_usage::NanoUsd;
use tower_workspace::Workspace;

use super::{Api, ApiError, quota, rfc3339};
use crate::environment::{EnvironmentError, agent_id};

/// Role that may ask for more than the plan.
const ADMIN: &str = "admin";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Initialize {
    #[serde(default)]
    enable_sandbox: bool,
    // Everybody has a virtual key; there is nothing else to assign.
    #[serde(default, rename = "assignApiKey")]
    _assign_api_key: bool,
    quota_tokens_per_day: Option<u64>,
    /// USD, as a decimal.
    quota_cost_per_month: Option<String>,
}

/// `POST /api/openclaw/initialize`: makes the caller's environment; asking again answers the same.
pub(super) async fn initialize(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    body: Result<Json<Initialize>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let asked = match body {
        Ok(Json(asked)) => asked,
        Err(JsonRejection::MissingJsonContentType(_)) => Initialize::default(),
        Err(rejection) => return Err(ApiError::bad_request(rejection.body_text())),
    };
    if asked.enable_sandbox {
        let message = "the instance has no sandbox backend";
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "sandbox_unavailable",
            message,
        ));
    }
    let limits = asked_limits(&api, &identity, &asked)?;
    let workspace = api
        .environments
        .open(&identity)
        .await
        .map_err(|error| match error {
            EnvironmentError::InvalidUser(_) => ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_user",
                "your user id cannot have a workspace here",
            ),
            error => ApiError::unavailable("environment", &error),
        })?;
    if let Some(limits) = limits {
        let user_id = identity.user_id();
        let stored = api
            .store
            .put_user_limits(user_id, Some(limits.clone()))
            .await;
        stored.map_err(|error| ApiError::unavailable("store", &error))?;
        let set = api.quota.set_limits(user_id, Some(limits)).await;
        set.map_err(|error| ApiError::unavailable("quota store", &error))?;
    }
    let standings = api.quota.standings(identity.user_id()).await;
    let standings = standings.map_err(|error| ApiError::unavailable("quota store", &error))?;
    let amount = |dimension, window| {
        let of = |limit: Limit| (limit.dimension(), limit.window()) == (dimension, window);
        standings
            .iter()
            .map(|standing| standing.limit())
            .find(|limit| of(*limit))
            .and_then(|limit| match limit.allowance() {
                Allowance::AtMost(amount) => Some(amount),
                Allowance::Unlimited => None,
            })
    };
    Ok(Json(json!({
        "success": true,
        "workspaceDir": workspace.instance_workspace_dir(),
        "profileName": workspace.profile_name(),
        "hasSandbox": workspace.has_sandbox(),
        "authProfileId": api.environments.auth_profile_id(&workspace),
        "quotaTokensPerDay": amount(Dimension::Tokens, Window::Day),
        "quotaCostPerMonth": amount(Dimension::Cost, Window::Month).map(quota::dollars),
    })))
}

/// The limits that the caller will have, if they asked for other ones than they have.
fn asked_limits(
    api: &Api,
    identity: &Identity,
    asked: &Initialize,
) -> Result<Option<Limits>, ApiError> {
    let mut wanted = Vec::new();
    if let Some(tokens) = asked.quota_tokens_per_day {
        if i64::try_from(tokens).is_err() {
            return Err(ApiError::bad_request("quotaTokensPerDay is too large"));
        }
        wanted.push(Limit::at_most(Dimension::Tokens, Window::Day, tokens));
    }
    if let Some(cost) = &asked.quota_cost_per_month {
        let nanos = cost
            .parse::<NanoUsd>()
            .ok()
            .and_then(|cost| u64::try_from(cost.as_nanos()).ok());
        let nanos = nanos.ok_or_else(|| {
            ApiError::bad_request("quotaCostPerMonth must be US dollars as a decimal that is not negative, like \"100.00\"")
        })?;
        wanted.push(Limit::at_most(Dimension::Cost, Window::Month, nanos));
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let is_admin = identity.roles().iter().any(|role| &**role == ADMIN);
    for limit in &wanted {
        let more = match (
            limit.allowance(),
            api.plan
                .find(limit.dimension(), limit.window())
                .map(Limit::allowance),
        ) {
            (Allowance::AtMost(wanted), Some(Allowance::AtMost(plan))) => wanted > plan,
            (_, Some(Allowance::Unlimited) | None) => false,
            (Allowance::Unlimited, _) => true,
        };
        if more && !is_admin {
            let message = "only an administrator may set more than the plan has";
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "quota_above_plan",
                message,
            ));
        }
    }
    // All other limits stay the plan's.
    let others: Vec<Limit> = api
        .plan
        .iter()
        .filter(|limit| {
            !wanted
                .iter()
                .any(|w| (w.dimension(), w.window()) == (limit.dimension(), limit.window()))
        })
        .copied()
        .collect();
    wanted.extend(others);
    Limits::new(wanted)
        .map(Some)
        .map_err(|error| ApiError::unavailable("limits", &error))
}

/// `GET /api/openclaw/credentials`
pub(super) async fn credentials(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    Extension(workspace): Extension<Arc<Workspace>>,
) -> impl IntoResponse {
    let issued = api.passwords.issue(&identity);
    // `http` becomes `ws`, `https` becomes `wss`.
    let url = format!("{}/ws", api.public_url.replacen("http", "ws", 1));
    let body = json!({
        "gatewayUrl": url,
        "password": issued.password.expose(),
        "workspaceDir": workspace.instance_workspace_dir(),
        "profileName": workspace.profile_name(),
        "hasSandbox": workspace.has_sandbox(),
        "sessionKey": format!("agent:{}:main", agent_id(&workspace)),
        "expiresAt": rfc3339(issued.expires_at),
    });
    ([(CACHE_CONTROL, "no-store")], Json(body))
}

/// `GET /api/openclaw/status`
pub(super) async fn status(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    Extension(workspace): Extension<Arc<Workspace>>,
) -> Result<Json<Value>, ApiError> {
    let standings = api.quota.standings(identity.user_id()).await;
    let standings = standings.map_err(|error| ApiError::unavailable("quota store", &error))?;
    let healthy = api.admin.is_connected();
    Ok(Json(json!({
        "status": if healthy { "ready" } else { "unavailable" },
        "workspaceDir": workspace.instance_workspace_dir(),
        "profileName": workspace.profile_name(),
        "hasSandbox": workspace.has_sandbox(),
        "quota": quota::limits(&standings),
        "instance": { "name": &*api.instance, "healthy": healthy },
    })))
}
