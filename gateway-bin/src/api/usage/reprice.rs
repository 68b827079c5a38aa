use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tower_sso::Identity;
use tracing::info;
use utoipa::ToSchema;

use crate::api::actor::Actor;
use crate::api::{Api, ApiError};
use crate::audit::Act;
use crate::counters;

/// What has got a price.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct RepricedRecords {
    records: u64,
    /// What they cost together, in US dollars.
    cost: String,
    /// Records that have none still.
    unpriced: u64,
    /// Records that were left as they are until they are settled.
    unsettled: u64,
    /// Records whose cost the counters lack.
    uncounted: u64,
}

/// Gives what this gateway has recorded without a price one, if there is one now.
#[utoipa::path(
    post,
    path = "/api/admin/usage/reprice",
    responses((status = OK, body = RepricedRecords, description = "how many"))
)]
pub(in crate::api) async fn reprice(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
) -> Result<Json<RepricedRecords>, ApiError> {
    // Counters that are being filled from the ledger would have a part of it twice.
    if !api.counters.is_ready() {
        let message = "quotas are not counted yet; try again when the gateway is ready";
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not_ready",
            message,
        ));
    }
    let (ledger, prices) = (Arc::clone(&api.ledger), api.prices.load());
    let counters = api.counters.clone();
    let corrected = counters::reprice(&ledger, prices, counters)
        .await
        .map_err(|error| ApiError::unavailable("ledger", &error))?;
    let repriced = corrected.repriced;
    info!(by = %Actor(&admin), records = repriced.records, cost = %repriced.cost, "records were priced afterwards");
    let counts = RepricedRecords {
        records: repriced.records,
        cost: repriced.cost.to_string(),
        unpriced: repriced.unpriced,
        unsettled: repriced.unsettled,
        uncounted: corrected.uncounted,
    };
    act.was(json!({ "unpriced": counts.records + counts.unpriced + counts.unsettled }));
    act.is_now(json!(counts));
    Ok(Json(counts))
}
