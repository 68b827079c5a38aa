//! What people may use, as the configuration says.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Api;
use super::admin_quota::shown_limit;
use crate::plan;

/// `GET /api/admin/plans`: the plans that somebody can be put on, the default one first, with their limits.
pub(super) async fn list(State(api): State<Api>) -> Json<Value> {
    let plans = api.plans.iter().map(|(name, limits)| {
        json!({
            "plan": name.map_or(plan::DEFAULT, |name| name),
            "limits": limits.iter().map(shown_limit).collect::<Vec<_>>(),
        })
    });
    Json(json!({
        "timeZone": api.plans.zone().name(),
        "plans": plans.collect::<Vec<_>>(),
    }))
}
