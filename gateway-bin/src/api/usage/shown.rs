use serde_json::{Map, Value, json};
use tower_usage::UsageRecord;
use tower_usage::sqlite::Sum;

use crate::api::rfc3339;

pub(super) fn sum(sum: &Sum) -> Map<String, Value> {
    let value = json!({
        "runs": sum.calls,
        "inputTokens": sum.input_tokens,
        "outputTokens": sum.output_tokens,
        "cacheReadTokens": sum.cache_read_tokens,
        "cacheWriteTokens": sum.cache_write_tokens,
        "cacheWrite1hTokens": sum.cache_write_1h_tokens,
        "reasoningTokens": sum.reasoning_tokens,
        "totalTokens": sum.total_tokens,
        "cost": sum.cost.to_string(),
        "unpriced": sum.unpriced,
        "estimated": sum.estimated,
    });
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

pub(super) fn record(record: &UsageRecord) -> Value {
    json!({
        "id": record.id.to_string(),
        "userId": record.subject,
        "operation": record.operation.as_str(),
        "provider": record.provider,
        "model": record.model,
        "requestedModel": record.requested_model,
        "sessionKey": record.session_key,
        "runId": record.run_id,
        "responseId": record.response_id,
        "inputTokens": record.tokens.input,
        "outputTokens": record.tokens.output,
        "cacheReadTokens": record.tokens.cache_read,
        "cacheWriteTokens": record.tokens.cache_write,
        "cacheWrite1hTokens": record.tokens.cache_write_1h,
        "reasoningTokens": record.tokens.reasoning,
        "totalTokens": record.tokens.total(),
        "cost": record.cost.map(|cost| cost.to_string()),
        "price": record.rate.map(|rate| json!({
            "input": rate.input_price().to_string(),
            "output": rate.output_price().to_string(),
            "cacheRead": rate.cache_read_price().to_string(),
            "cacheWrite": rate.cache_write_price().to_string(),
            "cacheWrite1h": rate.cache_write_1h_price().map(|price| price.to_string()),
        })),
        "source": record.source.as_str(),
        "outcome": record.outcome.as_str(),
        "metadata": record.metadata.as_deref().map(metadata),
        "startedAt": rfc3339(record.admitted_at),
        "endedAt": rfc3339(record.ended_at),
    })
}

/// What else is known, which is JSON unless somebody else has written it.
fn metadata(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
