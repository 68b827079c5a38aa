use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde_json::{Value, json};
use tower_sso::Identity;
use tracing::info;

use crate::api::actor::Actor;
use crate::api::{Api, ApiError};
use crate::audit::Act;
use crate::counters;

/// `POST /api/admin/usage/reprice`: what this gateway has recorded without a price gets one, if there is one now.
pub(in crate::api) async fn reprice(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
) -> Result<Json<Value>, ApiError> {
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
    let counts = json!({
        "records": repriced.records,
        "cost": repriced.cost.to_string(),
        "unpriced": repriced.unpriced,
        "unsettled": repriced.unsettled,
        "uncounted": corrected.uncounted,
    });
    act.is_now(counts.clone());
    Ok(Json(counts))
}
