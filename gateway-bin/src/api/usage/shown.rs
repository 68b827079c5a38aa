use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tower_usage::UsageRecord;
use tower_usage::sqlite::Sum;
use utoipa::ToSchema;

use crate::api::rfc3339;

/// Records, added up.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownSum {
    runs: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    cache_write_tokens: u64,
    #[serde(rename = "cacheWrite1hTokens")]
    cache_write_1h_tokens: u64,
    reasoning_tokens: u64,
    total_tokens: u64,
    /// In US dollars.
    cost: String,
    /// Records without a price.
    unpriced: u64,
    /// Records whose tokens were estimated.
    estimated: u64,
}

/// A metered event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownRecord {
    id: String,
    user_id: Arc<str>,
    /// `model_call` or `run`.
    operation: &'static str,
    provider: Option<Arc<str>>,
    model: Option<Arc<str>>,
    requested_model: Option<Arc<str>>,
    session_key: Option<Arc<str>>,
    run_id: Option<Arc<str>>,
    response_id: Option<Arc<str>>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    #[serde(rename = "cacheWrite1hTokens")]
    cache_write_1h_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    total_tokens: u64,
    /// In US dollars.
    cost: Option<String>,
    price: Option<ShownPrice>,
    /// `exact`, `estimated`, `invalid` or `observed`.
    source: &'static str,
    /// `complete`, `aborted`, `failed` or `refused`.
    outcome: &'static str,
    /// What else is known.
    metadata: Option<Value>,
    #[schema(format = DateTime)]
    started_at: String,
    #[schema(format = DateTime)]
    ended_at: String,
}

/// US dollars for a million tokens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShownPrice {
    input: String,
    output: String,
    cache_read: String,
    cache_write: String,
    #[serde(rename = "cacheWrite1h")]
    cache_write_1h: Option<String>,
}

pub(super) fn sum(sum: &Sum) -> ShownSum {
    ShownSum {
        runs: sum.calls,
        input_tokens: sum.input_tokens,
        output_tokens: sum.output_tokens,
        cache_read_tokens: sum.cache_read_tokens,
        cache_write_tokens: sum.cache_write_tokens,
        cache_write_1h_tokens: sum.cache_write_1h_tokens,
        reasoning_tokens: sum.reasoning_tokens,
        total_tokens: sum.total_tokens,
        cost: sum.cost.to_string(),
        unpriced: sum.unpriced,
        estimated: sum.estimated,
    }
}

pub(super) fn record(record: &UsageRecord) -> ShownRecord {
    let tokens = &record.tokens;
    let price = |rate: tower_usage::Rate| ShownPrice {
        input: rate.input_price().to_string(),
        output: rate.output_price().to_string(),
        cache_read: rate.cache_read_price().to_string(),
        cache_write: rate.cache_write_price().to_string(),
        cache_write_1h: rate.cache_write_1h_price().map(|price| price.to_string()),
    };
    ShownRecord {
        id: record.id.to_string(),
        user_id: Arc::clone(&record.subject),
        operation: record.operation.as_str(),
        provider: record.provider.clone(),
        model: record.model.clone(),
        requested_model: record.requested_model.clone(),
        session_key: record.session_key.clone(),
        run_id: record.run_id.clone(),
        response_id: record.response_id.clone(),
        input_tokens: tokens.input,
        output_tokens: tokens.output,
        cache_read_tokens: tokens.cache_read,
        cache_write_tokens: tokens.cache_write,
        cache_write_1h_tokens: tokens.cache_write_1h,
        reasoning_tokens: tokens.reasoning,
        total_tokens: tokens.total(),
        cost: record.cost.map(|cost| cost.to_string()),
        price: record.rate.map(price),
        source: record.source.as_str(),
        outcome: record.outcome.as_str(),
        metadata: record.metadata.as_deref().map(metadata),
        started_at: rfc3339(record.admitted_at),
        ended_at: rfc3339(record.ended_at),
    }
}

/// What else is known, which is JSON unless somebody else has written it.
fn metadata(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
