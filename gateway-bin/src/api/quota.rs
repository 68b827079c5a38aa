use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};
use tower_quota::{Allowance, Dimension, Standing};
use tower_sso::Identity;
use tower_usage::NanoUsd;

use super::{Api, ApiError, rfc3339};

/// `GET /api/quota`
pub(super) async fn standing(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<Value>, ApiError> {
    let standings = api.quota.standings(&identity.user_id().into()).await;
    let standings = standings.map_err(|error| ApiError::unavailable("quota store", &error))?;
    Ok(Json(json!({ "limits": limits(&standings) })))
}

/// Limits and standing; money as decimals of a dollar, everything else as numbers. A `limit` of `null` is unlimited.
pub(super) fn limits(standings: &[Standing]) -> Vec<Value> {
    let row = |standing: &Standing| {
        let dimension = standing.limit().dimension();
        let amount = |amount: u64| {
            if dimension == Dimension::Cost {
                json!(dollars(amount))
            } else {
                json!(amount)
            }
        };
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

pub(super) fn dollars(nanos: u64) -> String {
    NanoUsd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)).to_string()
}
