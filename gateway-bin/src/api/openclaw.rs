use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use futures_util::FutureExt;
use http::{Extensions, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_quota::{Allowance, Dimension, Limit, Limits, Standing, Subject, Window};
use tower_sso::Identity;
use tower_usage::NanoUsd;
use tower_workspace::Workspace;
use utoipa::ToSchema;

use super::admin_quota::shown_terms;
use super::body::JsonBody;
use super::quota::LimitStanding;
use super::{ADMIN, Api, ApiError, acts, quota, rfc3339};
use crate::audit::Act;
use crate::environment::EnvironmentError;
use crate::protocol::ExtendedChat;
use crate::terms::TermsError;

#[derive(Debug, Default, Deserialize, ToSchema)]
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

/// What somebody has.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Initialized {
    success: bool,
    #[schema(value_type = String)]
    workspace_dir: PathBuf,
    profile_name: String,
    has_sandbox: bool,
    auth_profile_id: String,
    /// Null: unlimited.
    quota_tokens_per_day: Option<u64>,
    /// USD, as a decimal. Null: unlimited.
    quota_cost_per_month: Option<String>,
}

/// With what a client of OpenClaw opens a socket.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Credentials {
    gateway_url: String,
    /// For the caller only, and for a short time.
    password: String,
    #[schema(value_type = String)]
    workspace_dir: PathBuf,
    profile_name: String,
    has_sandbox: bool,
    session_key: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    /// `ready` or `unavailable`.
    status: &'static str,
    #[schema(value_type = String)]
    workspace_dir: PathBuf,
    profile_name: String,
    has_sandbox: bool,
    quota: Vec<LimitStanding>,
    instance: InstanceStatus,
    /// Where the caller has a key of their own.
    own_provider_keys: Vec<Arc<str>>,
}

#[derive(Serialize, ToSchema)]
struct InstanceStatus {
    name: Option<String>,
    healthy: bool,
}

/// Makes the caller's environment; asking again answers the same.
#[utoipa::path(
    post,
    path = "/api/openclaw/initialize",
    request_body = Option<Initialize>,
    responses(
        (status = OK, body = Initialized, description = "it is made"),
        (status = FORBIDDEN, description = "only an administrator may set more than the plan has, and no personal access token does this"),
        (status = CONFLICT, description = "the instance has no sandbox, or the limits are being changed by somebody else"),
        (status = UNPROCESSABLE_ENTITY, description = "the caller's user id cannot have a workspace"),
    )
)]
pub(super) async fn initialize(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    extensions: Extensions,
    body: Option<JsonBody<Initialize>>,
) -> Result<Json<Initialized>, ApiError> {
    // None at all asks for nothing in particular.
    let asked = body.map(|JsonBody(asked)| asked).unwrap_or_default();
    let user_id = identity.user_id();
    let subject = Subject::from(user_id);
    let terms = api.quota.terms(&subject).await;
    let terms = terms.map_err(|error| ApiError::unavailable("quota store", &error))?;
    // What is their own already is not more than their plan, whoever gave it to them.
    let plan = api.plans.limits_of(&terms.limits(Limits::default()));
    let wanted = asked.limits()?;
    let is_above = wanted.iter().any(|limit| exceeds(limit, &plan));
    if is_above && !identity.roles().iter().any(|role| &**role == ADMIN) {
        let message = "only an administrator may set more than the plan has";
        let status = StatusCode::FORBIDDEN;
        return Err(ApiError::new(status, "quota_above_plan", message));
    }
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
        match is_above {
            true => raise(&api, &extensions, user_id, wanted).await?,
            false => set(&api, user_id, &wanted, None).await?,
        }
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
    Ok(Json(Initialized {
        success: true,
        workspace_dir: workspace.instance_workspace_dir().to_owned(),
        profile_name: workspace.profile_name().to_owned(),
        has_sandbox: workspace.has_sandbox(),
        auth_profile_id: environment.auth_profile_id(),
        quota_tokens_per_day: amount(Dimension::Tokens, Window::Day),
        quota_cost_per_month: amount(Dimension::Cost, Window::Month).map(quota::dollars),
    }))
}

/// Sets limits of an administrator's own that are above their plan, which is an act of theirs as any other.
async fn raise(
    api: &Api,
    extensions: &Extensions,
    user_id: &Arc<str>,
    wanted: Limits,
) -> Result<(), ApiError> {
    let actor = acts::actor(extensions);
    let actor = actor.ok_or_else(|| ApiError::forbidden("nobody is signed in"))?;
    let act = Act::new(actor, "quota.raise");
    act.to_user(user_id);
    let work = {
        let (api, user_id, act) = (api.clone(), Arc::clone(user_id), act.clone());
        async move { set(&api, &user_id, &wanted, Some(&act)).await }
    };
    acts::perform_own(api.store.clone(), act, work).await
}

async fn set(
    api: &Api,
    user_id: &Arc<str>,
    wanted: &Limits,
    act: Option<&Act>,
) -> Result<(), ApiError> {
    let changed = api.terms.change(user_id, |terms| {
        if let Some(act) = act {
            act.was(json!(shown_terms(&terms)));
        }
        let limits = terms.own_limits().overridden_by(wanted);
        terms.limits(limits)
    });
    let terms = changed.await.map_err(|error| match error {
        TermsError::Changed => {
            let message = "your limits are being changed by somebody else; try again";
            ApiError::new(StatusCode::CONFLICT, "conflict", message)
        }
        error => ApiError::unavailable("quota", &error),
    })?;
    if let Some(act) = act {
        act.is_now(json!(shown_terms(&terms)));
    }
    Ok(())
}

/// Whether a limit allows more than the plan's.
fn exceeds(limit: &Limit, plan: &Limits) -> bool {
    let of_plan = plan.find(limit.dimension(), limit.window());
    match (limit.allowance(), of_plan.map(Limit::allowance)) {
        (Allowance::AtMost(amount), Some(Allowance::AtMost(most))) => amount > most,
        _ => false,
    }
}

/// With what a client of the caller's opens a socket; makes the caller's environment if there is none.
#[utoipa::path(
    get,
    path = "/api/openclaw/credentials",
    responses(
        (status = OK, body = Credentials, description = "good for one person and a short time"),
        (status = CONFLICT, description = "the workspace must be initialized first"),
    )
)]
pub(super) async fn credentials(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    Extension(workspace): Extension<Arc<Workspace>>,
) -> Json<Credentials> {
    let issued = api.passwords.issue(&identity);
    let upstream = api.environments.upstream_of(&workspace);
    let session_key = match upstream.is_some_and(|upstream| upstream.extended_chat_params) {
        true => ExtendedChat::session_of(workspace.name().as_str()),
        false => format!("agent:{}:main", workspace.slot().unwrap_or_default()),
    };
    // `http` becomes `ws`, `https` becomes `wss`.
    let url = format!("{}/ws", api.public_url.replacen("http", "ws", 1));
    Json(Credentials {
        gateway_url: url,
        password: issued.password.expose().to_owned(),
        workspace_dir: workspace.instance_workspace_dir().to_owned(),
        profile_name: workspace.profile_name().to_owned(),
        has_sandbox: workspace.has_sandbox(),
        session_key,
        expires_at: rfc3339(issued.expires_at),
    })
}

/// How the caller's environment is.
#[utoipa::path(
    get,
    path = "/api/openclaw/status",
    responses(
        (status = OK, body = Status, description = "whether it can be used, and the caller's limits"),
        (status = CONFLICT, description = "the workspace must be initialized first"),
    )
)]
pub(super) async fn status(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    Extension(workspace): Extension<Arc<Workspace>>,
) -> Result<Json<Status>, ApiError> {
    let standings = api.quota.standings(&identity.user_id().into()).await;
    let standings = standings.map_err(|error| ApiError::unavailable("quota store", &error))?;
    let upstream = api.environments.upstream_of(&workspace);
    let healthy = upstream.is_some_and(|upstream| upstream.is_ready());
    let row = api.store.find_environment(workspace.user_id()).await;
    let row = row.map_err(|error| ApiError::unavailable("store", &error))?;
    // One whose making was broken off is made whole when they come.
    let is_whole = row.is_some_and(|row| row.agent_ready);
    Ok(Json(Status {
        status: match healthy && is_whole {
            true => "ready",
            false => "unavailable",
        },
        workspace_dir: workspace.instance_workspace_dir().to_owned(),
        profile_name: workspace.profile_name().to_owned(),
        has_sandbox: workspace.has_sandbox(),
        quota: quota::limits(&standings),
        instance: InstanceStatus {
            name: workspace.instance().map(str::to_owned),
            healthy,
        },
        own_provider_keys: api.own_keys.providers_of(identity.user_id()),
    }))
}

// === impl Initialize ===

impl Initialize {
    /// The limits that are asked for.
    fn limits(&self) -> Result<Vec<Limit>, ApiError> {
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
        let limits = wanted.into_iter();
        Ok(limits
            .map(|(dimension, window, amount)| Limit::at_most(dimension, window, amount))
            .collect())
    }
}
