use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tower_quota::{Allowance, Dimension, Limit, Limits, Standing, Subject, Window};
use tower_sso::Identity;
use tower_usage::NanoUsd;
use tower_workspace::Workspace;

use super::{ADMIN, Api, ApiError, body, quota, rfc3339};
use crate::environment::EnvironmentError;
use crate::protocol::ExtendedChat;
use crate::terms::TermsError;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Initialize {
    /// From now on; it is not taken back by leaving it out.
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
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let asked = Initialize::parse(&headers, &body)?;
    let user_id = identity.user_id();
    let subject = Subject::from(user_id);
    let terms = api.quota.terms(&subject).await;
    let terms = terms.map_err(|error| ApiError::unavailable("quota store", &error))?;
    // What is their own already is not more than their plan, whoever gave it to them.
    let wanted = asked.limits(
        &api.plans.limits_of(&terms.limits(Limits::default())),
        &identity,
    )?;
    // Whose sign-in has ended makes nothing anew: perhaps they were deleted.
    if api.sign_in.ended(&identity).now_or_never().is_some() {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "you were signed out",
        ));
    }
    let environments = &api.environments;
    let opened = match asked.enable_sandbox {
        true => environments.open_with_sandbox(&identity).await,
        false => environments.open(&identity).await,
    };
    let environment = opened.map_err(|error| match error {
        EnvironmentError::NoSandbox => {
            let message = "the instance has no sandbox backend";
            ApiError::new(StatusCode::CONFLICT, "sandbox_unavailable", message)
        }
        EnvironmentError::InvalidUser(_) => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_user",
            "your user id cannot have a workspace here",
        ),
        EnvironmentError::Cell(error) => ApiError::cell(&error),
        error => ApiError::unavailable("environment", &error),
    })?;
    if !wanted.is_empty() {
        let wanted =
            Limits::new(wanted).map_err(|error| ApiError::unavailable("limits", &error))?;
        let changed = api.terms.change(user_id, |terms| {
            let limits = terms.own_limits().overridden_by(&wanted);
            terms.limits(limits)
        });
        changed.await.map_err(|error| match error {
            TermsError::Changed => {
                let message = "your limits are being changed by somebody else; try again";
                ApiError::new(StatusCode::CONFLICT, "conflict", message)
            }
            error => ApiError::unavailable("quota", &error),
        })?;
    }
    let standings = api.quota.standings(&subject).await;
    let standings = standings.map_err(|error| ApiError::unavailable("quota store", &error))?;
    let amount = |dimension, window| {
        let limits = standings.iter().map(Standing::limit);
        let limit = limits
            .into_iter()
            .find(|limit| (limit.dimension(), limit.window()) == (dimension, window));
        limit.and_then(|limit| match limit.allowance() {
            Allowance::AtMost(amount) => Some(amount),
            Allowance::Unlimited => None,
        })
    };
    let workspace = &environment.workspace;
    Ok(Json(json!({
        "success": true,
        "workspaceDir": workspace.instance_workspace_dir(),
        "profileName": workspace.profile_name(),
        "hasSandbox": workspace.has_sandbox(),
        "authProfileId": environment.auth_profile_id(),
        "quotaTokensPerDay": amount(Dimension::Tokens, Window::Day),
        "quotaCostPerMonth": amount(Dimension::Cost, Window::Month).map(quota::dollars),
    })))
}

/// `GET /api/openclaw/credentials`
pub(super) async fn credentials(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    Extension(workspace): Extension<Arc<Workspace>>,
) -> Json<Value> {
    let issued = api.passwords.issue(&identity);
    let upstream = api.environments.upstream_of(&workspace);
    let session_key = match upstream.is_some_and(|upstream| upstream.extended_chat_params) {
        true => ExtendedChat::session_of(workspace.name().as_str()),
        false => format!("agent:{}:main", workspace.slot().unwrap_or_default()),
    };
    // `http` becomes `ws`, `https` becomes `wss`.
    let url = format!("{}/ws", api.public_url.replacen("http", "ws", 1));
    Json(json!({
        "gatewayUrl": url,
        "password": issued.password.expose(),
        "workspaceDir": workspace.instance_workspace_dir(),
        "profileName": workspace.profile_name(),
        "hasSandbox": workspace.has_sandbox(),
        "sessionKey": session_key,
        "expiresAt": rfc3339(issued.expires_at),
    }))
}

/// `GET /api/openclaw/status`
pub(super) async fn status(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    Extension(workspace): Extension<Arc<Workspace>>,
) -> Result<Json<Value>, ApiError> {
    let standings = api.quota.standings(&identity.user_id().into()).await;
    let standings = standings.map_err(|error| ApiError::unavailable("quota store", &error))?;
    let upstream = api.environments.upstream_of(&workspace);
    let healthy = upstream.is_some_and(|upstream| upstream.is_ready());
    let row = api.store.find_environment(workspace.user_id()).await;
    let row = row.map_err(|error| ApiError::unavailable("store", &error))?;
    // One whose making was broken off is made whole when they come.
    let is_whole = row.is_some_and(|row| row.agent_ready);
    Ok(Json(json!({
        "status": if healthy && is_whole { "ready" } else { "unavailable" },
        "workspaceDir": workspace.instance_workspace_dir(),
        "profileName": workspace.profile_name(),
        "hasSandbox": workspace.has_sandbox(),
        "quota": quota::limits(&standings),
        "instance": { "name": workspace.instance(), "healthy": healthy },
        "ownProviderKeys": api.own_keys.providers_of(identity.user_id()),
    })))
}

// === impl Initialize ===

impl Initialize {
    /// Reads the body; none at all asks for nothing in particular.
    fn parse(headers: &HeaderMap, body: &Bytes) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        body::json(headers, body)
    }

    /// The limits that are asked for: at most the plan's, but for administrators.
    fn limits(&self, plan: &Limits, identity: &Identity) -> Result<Vec<Limit>, ApiError> {
        let mut wanted = Vec::new();
        if let Some(tokens) = self.quota_tokens_per_day {
            if i64::try_from(tokens).is_err() {
                return Err(ApiError::bad_request("quotaTokensPerDay is too large"));
            }
            wanted.push((Dimension::Tokens, Window::Day, tokens));
        }
        if let Some(cost) = &self.quota_cost_per_month {
            let nanos = cost
                .parse::<NanoUsd>()
                .ok()
                .and_then(|cost| u64::try_from(cost.as_nanos()).ok());
            let nanos = nanos.ok_or_else(|| {
                ApiError::bad_request(
                    "quotaCostPerMonth must be US dollars that are not negative, like \"100.00\"",
                )
            })?;
            wanted.push((Dimension::Cost, Window::Month, nanos));
        }
        let is_admin = identity.roles().iter().any(|role| &**role == ADMIN);
        wanted
            .into_iter()
            .map(|(dimension, window, amount)| {
                let of_plan = plan.find(dimension, window).map(Limit::allowance);
                let more = matches!(of_plan, Some(Allowance::AtMost(most)) if amount > most);
                if more && !is_admin {
                    let message = "only an administrator may set more than the plan has";
                    return Err(ApiError::new(
                        StatusCode::FORBIDDEN,
                        "quota_above_plan",
                        message,
                    ));
                }
                Ok(Limit::at_most(dimension, window, amount))
            })
            .collect()
    }
}
