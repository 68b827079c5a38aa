//! What an administrator may do about people's quotas.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_quota::{Allowance, Dimension, Grant, Limit, Limits, Terms, TimeZone, Window};
use tower_sso::Identity;
use tower_usage::NanoUsd;
use tracing::info;
use utoipa::ToSchema;

use super::actor::Actor;
use super::body::JsonBody;
use super::quota::{Amount, Explanation, LimitStanding, amount, explanation, limits, standings};
use super::{Api, ApiError, rfc3339};
use crate::audit::Act;
use crate::clock;
use crate::terms::TermsError;

/// The whole of what is special about somebody.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct WantedTerms {
    /// That which was read.
    version: u64,
    /// One that the configuration has.
    #[serde(default)]
    plan: Option<String>,
    /// Such as `Europe/Berlin`.
    #[serde(default)]
    time_zone: Option<String>,
    #[serde(default)]
    limits: Vec<WantedLimit>,
    #[serde(default)]
    #[schema(max_items = 32)]
    grants: Vec<WantedGrant>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedLimit {
    /// `tokens`, `cost` or `calls`.
    dimension: String,
    /// `minute`, `hour`, `day` or `month`.
    window: String,
    /// Null: unlimited.
    #[schema(value_type = Option<Amount>, required = true)]
    limit: Value,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(example = json!({
    "dimension": "tokens", "window": "day", "amount": 100_000, "expiresAt": "2100-01-01T00:00:00Z",
}))]
pub(super) struct WantedGrant {
    /// `tokens`, `cost` or `calls`.
    dimension: String,
    /// `minute`, `hour`, `day` or `month`.
    window: String,
    #[schema(value_type = Amount)]
    amount: Value,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// What is special about somebody.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownTerms {
    version: u64,
    plan: Option<String>,
    time_zone: Option<String>,
    limits: Vec<ShownLimit>,
    grants: Vec<ShownGrant>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ShownLimit {
    dimension: &'static str,
    window: &'static str,
    /// Null: unlimited.
    limit: Option<Amount>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownGrant {
    dimension: &'static str,
    window: &'static str,
    amount: Amount,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// What is special about somebody, and how they stand.
#[derive(Serialize, ToSchema)]
pub(super) struct QuotaOfUser {
    #[serde(flatten)]
    terms: ShownTerms,
    standing: Vec<LimitStanding>,
}

/// Most grants of one person: each is looked at with every request of theirs.
pub(super) const MAX_GRANTS: usize = 32;

/// What is special about somebody's quota, and how they stand.
#[utoipa::path(
    get,
    path = "/api/admin/users/{user_id}/quota",
    responses((status = OK, body = QuotaOfUser, description = "also of somebody who never came"))
)]
pub(super) async fn show(
    State(api): State<Api>,
    Path(user_id): Path<Arc<str>>,
) -> Result<Json<QuotaOfUser>, ApiError> {
    let terms = api.terms.of(&user_id).await.map_err(refusal)?;
    shown(&api, &user_id, &terms).await
}

/// Puts something else in the place of what was special about somebody, if that is still of the version that is named.
#[utoipa::path(
    put,
    path = "/api/admin/users/{user_id}/quota",
    request_body = WantedTerms,
    responses(
        (status = OK, body = QuotaOfUser, description = "it holds from the next request on"),
        (status = CONFLICT, description = "it is of another version"),
    )
)]
pub(super) async fn replace(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<Arc<str>>,
    JsonBody(wanted): JsonBody<WantedTerms>,
) -> Result<Json<QuotaOfUser>, ApiError> {
    let terms = wanted.terms(&api)?;
    // Another version than this one is not replaced.
    let before = api.terms.of(&user_id).await.map_err(refusal)?;
    act.was(json!(shown_terms(&before)));
    let set = api.terms.set(&user_id, terms.clone()).await;
    if !set.map_err(refusal)? {
        return Err(refusal(TermsError::Changed));
    }
    let version = terms.version().saturating_add(1);
    act.is_now(json!(shown_terms(&terms.at_version(version))));
    info!(by = %Actor(&admin), "somebody's quota was set");
    show(State(api), Path(user_id)).await
}

/// Gives somebody more of one limit, for a time.
#[utoipa::path(
    post,
    path = "/api/admin/users/{user_id}/quota/grants",
    request_body = WantedGrant,
    responses(
        (status = CREATED, body = QuotaOfUser, description = "it holds from the next request on"),
        (status = CONFLICT, description = "they have as many as anybody may have, or it was changed by somebody else"),
    )
)]
pub(super) async fn grant(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<Arc<str>>,
    JsonBody(wanted): JsonBody<WantedGrant>,
) -> Result<(StatusCode, Json<QuotaOfUser>), ApiError> {
    let grant = wanted.grant("")?;
    let now = clock::now();
    let terms = api.terms.of(&user_id).await.map_err(refusal)?;
    let live = terms
        .grants()
        .iter()
        .filter(|grant| grant.expires_at() > now);
    if live.count() >= MAX_GRANTS {
        return Err(too_many_grants());
    }
    let terms = api.terms.change(&user_id, |terms| {
        act.was(json!(shown_terms(&terms)));
        terms
            .retain_grants(|grant| grant.expires_at() > now)
            .grant(grant)
    });
    let terms = terms.await.map_err(refusal)?;
    act.is_now(json!(shown_terms(&terms)));
    info!(by = %Actor(&admin), "somebody was granted more");
    Ok((StatusCode::CREATED, shown(&api, &user_id, &terms).await?))
}

/// What somebody reads themselves at `/api/quota/explain`.
#[utoipa::path(
    get,
    path = "/api/admin/users/{user_id}/quota/explain",
    responses((status = OK, body = Explanation, description = "every limit, and the answer"))
)]
pub(super) async fn explain(
    State(api): State<Api>,
    Path(user_id): Path<Arc<str>>,
) -> Result<Json<Explanation>, ApiError> {
    Ok(Json(explanation(&standings(&api, &user_id).await?)))
}

/// What is special about somebody, and how they stand.
pub(super) async fn shown(
    api: &Api,
    user_id: &Arc<str>,
    terms: &Terms,
) -> Result<Json<QuotaOfUser>, ApiError> {
    let standings = standings(api, user_id).await?;
    Ok(Json(QuotaOfUser {
        terms: shown_terms(terms),
        standing: limits(&standings),
    }))
}

/// What is special about somebody, without what is over.
pub(super) fn shown_terms(terms: &Terms) -> ShownTerms {
    let grant = |grant: &Grant| ShownGrant {
        dimension: grant.dimension().as_str(),
        window: grant.window().as_str(),
        amount: amount(grant.dimension(), grant.amount()),
        expires_at: rfc3339(grant.expires_at()),
    };
    let now = clock::now();
    let live = terms
        .grants()
        .iter()
        .filter(|grant| grant.expires_at() > now);
    ShownTerms {
        version: terms.version(),
        plan: terms.plan_name().map(ToString::to_string),
        time_zone: terms.zone().map(|zone| zone.name().to_owned()),
        limits: terms.own_limits().iter().map(shown_limit).collect(),
        grants: live.map(grant).collect(),
    }
}

/// A limit itself.
pub(super) fn shown_limit(limit: &Limit) -> ShownLimit {
    ShownLimit {
        dimension: limit.dimension().as_str(),
        window: limit.window().as_str(),
        limit: match limit.allowance() {
            Allowance::AtMost(limit_amount) => Some(amount(limit.dimension(), limit_amount)),
            Allowance::Unlimited => None,
        },
    }
}

pub(super) fn too_many_grants() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "too_many_grants",
        format!("there are {MAX_GRANTS} grants already; take some away"),
    )
}

pub(super) fn refusal(error: TermsError) -> ApiError {
    match error {
        TermsError::Changed => ApiError::new(
            StatusCode::CONFLICT,
            "changed",
            "it was changed by somebody else; read it again",
        ),
        error => ApiError::unavailable("quota", &error),
    }
}

fn names(dimension: &str, window: &str, field: &str) -> Result<(Dimension, Window), ApiError> {
    let mut dimensions = Dimension::ALL.into_iter();
    let dimension = dimensions.find(|known| known.as_str() == dimension);
    let dimension = dimension.ok_or_else(|| {
        ApiError::bad_request(format!("{field}dimension: must be tokens, cost or calls"))
    })?;
    let mut windows = Window::ALL.into_iter();
    let window = windows.find(|known| known.as_str() == window);
    let window = window.ok_or_else(|| {
        ApiError::bad_request(format!("{field}window: must be minute, hour, day or month"))
    })?;
    Ok((dimension, window))
}

/// An amount as it is written: money as a decimal of dollars, all else as a number.
fn read_amount(dimension: Dimension, value: &Value, field: &str) -> Result<u64, ApiError> {
    let (read, form) = match dimension {
        Dimension::Cost => (
            value
                .as_str()
                .and_then(|text| text.parse::<NanoUsd>().ok())
                .and_then(|amount| u64::try_from(amount.as_nanos()).ok()),
            "US dollars that are not negative, as a text like \"100.00\"",
        ),
        _ => (
            value
                .as_u64()
                .filter(|amount| i64::try_from(*amount).is_ok()),
            "a whole number from 0 to 9223372036854775807",
        ),
    };
    read.ok_or_else(|| ApiError::bad_request(format!("{field}: must be {form}")))
}

fn read_time(text: &str, field: &str) -> Result<SystemTime, ApiError> {
    let read = text.parse::<jiff::Timestamp>().map(SystemTime::from);
    read.map_err(|_| {
        ApiError::bad_request(format!(
            "{field}: must be a time like \"2027-01-31T00:00:00Z\""
        ))
    })
}

// === impl WantedTerms ===

impl WantedTerms {
    fn terms(&self, api: &Api) -> Result<Terms, ApiError> {
        let mut terms = Terms::default().at_version(self.version);
        if let Some(plan) = &self.plan {
            if !api.plans.has(plan) {
                return Err(ApiError::bad_request(
                    "plan: must be one that the configuration has",
                ));
            }
            terms = terms.plan(plan.as_str());
        }
        if let Some(zone) = &self.time_zone {
            let zone = TimeZone::named(zone);
            let zone = zone.map_err(|error| ApiError::bad_request(format!("timeZone: {error}")))?;
            terms = terms.time_zone(zone);
        }
        let limits = self.limits.iter().enumerate().map(|(n, wanted)| {
            let field = format!("limits[{n}].");
            let (dimension, window) = names(&wanted.dimension, &wanted.window, &field)?;
            let allowance = match &wanted.limit {
                Value::Null => Allowance::Unlimited,
                value => {
                    Allowance::AtMost(read_amount(dimension, value, &format!("{field}limit"))?)
                }
            };
            Ok(Limit::new(dimension, window, allowance))
        });
        let limits = Limits::new(limits.collect::<Result<Vec<_>, ApiError>>()?);
        let limits = limits.map_err(|error| ApiError::bad_request(format!("limits: {error}")))?;
        terms = terms.limits(limits);
        if self.grants.len() > MAX_GRANTS {
            let message = format!("grants: must be {MAX_GRANTS} at most");
            return Err(ApiError::bad_request(message));
        }
        for (n, wanted) in self.grants.iter().enumerate() {
            terms = terms.grant(wanted.grant(&format!("grants[{n}]."))?);
        }
        Ok(terms)
    }
}

// === impl WantedGrant ===

impl WantedGrant {
    fn grant(&self, field: &str) -> Result<Grant, ApiError> {
        let (dimension, window) = names(&self.dimension, &self.window, field)?;
        let amount = read_amount(dimension, &self.amount, &format!("{field}amount"))?;
        let expires_at = read_time(&self.expires_at, &format!("{field}expiresAt"))?;
        Ok(Grant::new(dimension, window, amount, expires_at))
    }
}
