use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;
use tower_quota::{Allowance, Demand, Dimension, Standing};
use tower_sso::Identity;
use tower_usage::NanoUsd;
use utoipa::ToSchema;

use super::{Api, ApiError, rfc3339};
use crate::rpc::exceeded;

/// How somebody's limits stand.
#[derive(Serialize, ToSchema)]
pub(super) struct Quota {
    limits: Vec<LimitStanding>,
}

/// Every limit, and whether a run would begin now.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation {
    limits: Vec<LimitStanding>,
    run: RunStanding,
}

#[derive(Serialize, ToSchema)]
struct RunStanding {
    allowed: bool,
    /// Why not.
    reasons: Vec<Reason>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Reason {
    code: &'static str,
    message: String,
    #[schema(format = DateTime)]
    resets_at: String,
}

/// A limit, and what is left of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LimitStanding {
    /// `tokens`, `cost` or `calls`.
    dimension: &'static str,
    /// `minute`, `hour`, `day` or `month`.
    window: &'static str,
    /// Null: unlimited.
    limit: Option<Amount>,
    used: Amount,
    reserved: Amount,
    remaining: Option<Amount>,
    #[schema(format = DateTime)]
    resets_at: String,
}

/// An amount: US dollars as a decimal, all else as a number.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Amount {
    Dollars(String),
    Number(u64),
}

/// How the caller's limits stand.
#[utoipa::path(
    get,
    path = "/api/quota",
    responses((status = OK, body = Quota, description = "every limit"))
)]
pub(super) async fn standing(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Quota>, ApiError> {
    let standings = standings(&api, identity.user_id()).await?;
    let limits = limits(&standings);
    Ok(Json(Quota { limits }))
}

/// Whether a run of the caller's would begin now, and if not, why.
#[utoipa::path(
    get,
    path = "/api/quota/explain",
    responses((status = OK, body = Explanation, description = "every limit, and the answer"))
)]
pub(super) async fn explain(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Explanation>, ApiError> {
    Ok(Json(explanation(
        &standings(&api, identity.user_id()).await?,
    )))
}

/// How each limit of somebody stands.
pub(super) async fn standings(api: &Api, user_id: &Arc<str>) -> Result<Vec<Standing>, ApiError> {
    let standings = api.quota.standings(&user_id.into()).await;
    standings.map_err(|error| ApiError::unavailable("quota store", &error))
}

/// Every limit, and whether a run would begin now, and if not, why.
pub(super) fn explanation(standings: &[Standing]) -> Explanation {
    let refusals = standings.iter().filter_map(|standing| {
        let demand = match standing.limit().dimension() {
            Dimension::Calls => Demand::exactly(1),
            _ => Demand::something_left(),
        };
        standing.refuses(demand)
    });
    let reasons: Vec<Reason> = refusals
        .map(|denied| {
            let (code, message) = exceeded(&denied);
            Reason {
                code,
                message,
                resets_at: rfc3339(denied.resets_at()),
            }
        })
        .collect();
    Explanation {
        limits: limits(standings),
        run: RunStanding {
            allowed: reasons.is_empty(),
            reasons,
        },
    }
}

/// Limits and standing.
pub(crate) fn limits(standings: &[Standing]) -> Vec<LimitStanding> {
    let row = |standing: &Standing| {
        let dimension = standing.limit().dimension();
        let amount = |amount| self::amount(dimension, amount);
        let limit = match standing.limit().allowance() {
            Allowance::AtMost(limit) => Some(amount(limit)),
            Allowance::Unlimited => None,
        };
        LimitStanding {
            dimension: dimension.as_str(),
            window: standing.limit().window().as_str(),
            limit,
            used: amount(standing.used()),
            reserved: amount(standing.reserved()),
            remaining: standing.remaining().map(amount),
            resets_at: rfc3339(standing.resets_at()),
        }
    };
    standings.iter().map(row).collect()
}

/// An amount as answers have it.
pub(super) fn amount(dimension: Dimension, amount: u64) -> Amount {
    match dimension {
        Dimension::Cost => Amount::Dollars(dollars(amount)),
        _ => Amount::Number(amount),
    }
}

pub(super) fn dollars(nanos: u64) -> String {
    NanoUsd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)).to_string()
}
