//! What people may use, as the configuration says.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::admin_quota::{ShownLimit, shown_limit};
use crate::plan::DEFAULT;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownPlans {
    /// In which days and months begin, for who has no other.
    time_zone: String,
    plans: Vec<ShownPlan>,
}

#[derive(Serialize, ToSchema)]
struct ShownPlan {
    plan: String,
    limits: Vec<ShownLimit>,
}

/// The plans that somebody can be put on.
#[utoipa::path(
    get,
    path = "/api/admin/plans",
    responses((status = OK, body = ShownPlans, description = "the default one first"))
)]
pub(super) async fn list(State(api): State<Api>) -> Json<ShownPlans> {
    let plans = api.plans.iter().map(|(name, limits)| ShownPlan {
        plan: name.map_or(DEFAULT, |name| name).to_owned(),
        limits: limits.iter().map(shown_limit).collect(),
    });
    Json(ShownPlans {
        time_zone: api.plans.zone().name().to_owned(),
        plans: plans.collect(),
    })
}
