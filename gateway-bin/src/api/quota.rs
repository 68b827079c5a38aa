use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};
use tower_quota::{Allowance, Demand, Dimension, Standing};
use tower_sso::Identity;
use tower_usage::NanoUsd;

use super::{Api, ApiError, rfc3339};
use crate::rpc::exceeded;

/// `GET /api/quota`
pub(super) async fn standing(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Value>, ApiError> {
    let standings = standings(&api, identity.user_id()).await?;
    Ok(Json(json!({ "limits": limits(&standings) })))
}

/// `GET /api/quota/explain`
pub(super) async fn explain(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Value>, ApiError> {
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
pub(super) fn explanation(standings: &[Standing]) -> Value {
    let refusals = standings.iter().filter_map(|standing| {
        let demand = match standing.limit().dimension() {
            Dimension::Calls => Demand::exactly(1),
            _ => Demand::something_left(),
        };
        standing.refuses(demand)
    });
    let reasons: Vec<Value> = refusals
        .map(|denied| {
            let (code, message) = exceeded(&denied);
            json!({ "code": code, "message": message, "resetsAt": rfc3339(denied.resets_at()) })
        })
        .collect();
    json!({
        "limits": limits(standings),
        "run": { "allowed": reasons.is_empty(), "reasons": reasons },
    })
}

/// Limits and standing; money as decimals of a dollar, everything else as numbers. A `limit` of `null` is unlimited.
pub(crate) fn limits(standings: &[Standing]) -> Vec<Value> {
    let row = |standing: &Standing| {
        let dimension = standing.limit().dimension();
        let amount = |amount| self::amount(dimension, amount);
        let limit = match standing.limit().allowance() {
            Allowance::AtMost(limit) => amount(limit),
            Allowance::Unlimited => Value::Null,
        };
        json!({
            "dimension": dimension.as_str(),
            "window": standing.limit().window().as_str(),
            "limit": limit,
            "used": amount(standing.used()),
            "reserved": amount(standing.reserved()),
            "remaining": standing.remaining().map(amount),
            "resetsAt": rfc3339(standing.resets_at()),
        })
    };
    standings.iter().map(row).collect()
}

/// An amount as answers have it.
pub(super) fn amount(dimension: Dimension, amount: u64) -> Value {
    match dimension {
        Dimension::Cost => json!(dollars(amount)),
        _ => json!(amount),
    }
}

pub(super) fn dollars(nanos: u64) -> String {
    NanoUsd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)).to_string()
}
