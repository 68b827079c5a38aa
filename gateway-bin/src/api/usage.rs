use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_sso::Identity;
use tower_usage::UsageRecord;
use tower_usage::sqlite::{Group, GroupBy, LedgerError, Sum};

use super::{Api, ApiError, rfc3339};
use crate::clock;
use crate::prices::parse_day;

/// Days shown when the caller does not say from when.
const DEFAULT_DAYS: u64 = 30;

const DAY: Duration = Duration::from_secs(86_400);

/// Most records of one answer.
const PAGE: usize = 500;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    group_by: Grouping,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Grouping {
    #[default]
    Day,
    Model,
    Session,
}

/// `GET /api/usage?from&to&group_by`
pub(super) async fn totals(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let range = query(range)?;
    let (from, to) = range.times()?;
    let group_by = match range.group_by {
        Grouping::Day => GroupBy::Day,
        Grouping::Model => GroupBy::Model,
        Grouping::Session => GroupBy::Session,
    };
    let (total, groups) = read(&api, identity, move |ledger, user| {
        Ok((
            ledger.sum(user, from, to)?,
            ledger.totals(user, from, to, group_by)?,
        ))
    })
    .await?;
    let groups: Vec<Value> = groups
        .into_iter()
        .map(|row| {
            let mut value = sum(&row.sum);
            let (name, key) = match row.group {
                Group::Day(day) => ("day", Some(rfc3339(day).chars().take(10).collect())),
                Group::Model(model) => ("model", model.map(|model| model.to_string())),
                Group::Session(session) => ("session", session.map(|session| session.to_string())),
                _ => ("group", None),
            };
            if let Some(members) = value.as_object_mut() {
                members.insert(name.to_owned(), json!(key));
            }
            value
        })
        .collect();
    Ok(Json(
        json!({ "from": rfc3339(from), "to": rfc3339(to), "total": sum(&total), "groups": groups }),
    ))
}

/// `GET /api/usage/records?from&to`: the latest ones first.
pub(super) async fn records(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (from, to) = query(range)?.times()?;
    let records = read(&api, identity, move |ledger, user| {
        ledger.records(user, from, to, PAGE, None)
    })
    .await?;
    Ok(Json(
        json!({ "records": records.iter().map(record).collect::<Vec<_>>() }),
    ))
}

async fn read<T: Send + 'static>(
    api: &Api,
    identity: Arc<Identity>,
    query: impl FnOnce(&tower_usage::sqlite::SqliteLedger, &str) -> Result<T, LedgerError>
    + Send
    + 'static,
) -> Result<T, ApiError> {
    let ledger = Arc::clone(&api.ledger);
    let read = tokio::task::spawn_blocking(move || query(&ledger, identity.user_id())).await;
    read.map_err(|error| ApiError::unavailable("ledger", &error))?
        .map_err(|error| ApiError::unavailable("ledger", &error))
}

fn query(range: Result<Query<Range>, QueryRejection>) -> Result<Range, ApiError> {
    range
        .map(|Query(range)| range)
        .map_err(|rejection| ApiError::bad_request(rejection.body_text()))
}

fn sum(sum: &Sum) -> Value {
    json!({
        "runs": sum.calls,
        "inputTokens": sum.input_tokens,
        "outputTokens": sum.output_tokens,
        "cacheReadTokens": sum.cache_read_tokens,
        "cacheWriteTokens": sum.cache_write_tokens,
        "reasoningTokens": sum.reasoning_tokens,
        "totalTokens": sum.total_tokens,
        "cost": sum.cost.to_string(),
        "unpriced": sum.unpriced,
        "estimated": sum.estimated,
    })
}

fn record(record: &UsageRecord) -> Value {
    json!({
        "id": record.id.to_string(),
        "operation": record.operation.as_str(),
        "model": record.model,
        "sessionKey": record.session_key,
        "runId": record.run_id,
        "responseId": record.response_id,
        "inputTokens": record.tokens.input,
        "outputTokens": record.tokens.output,
        "cacheReadTokens": record.tokens.cache_read,
        "cacheWriteTokens": record.tokens.cache_write,
        "reasoningTokens": record.tokens.reasoning,
        "totalTokens": record.tokens.total(),
        "cost": record.cost.map(|cost| cost.to_string()),
        "source": record.source.as_str(),
        "outcome": record.outcome.as_str(),
        "startedAt": rfc3339(record.admitted_at),
        "endedAt": rfc3339(record.ended_at),
    })
}

// === impl Range ===

impl Range {
    /// From the first day's beginning until before the last day's end, in UTC.
    fn times(&self) -> Result<(SystemTime, SystemTime), ApiError> {
        let day = |name: &str, text: &str| {
            parse_day(text).ok_or_else(|| {
                ApiError::bad_request(format!("{name} must be a day like 2026-01-31"))
            })
        };
        let to = match &self.to {
            Some(to) => day("to", to)? + DAY,
            None => clock::now() + DAY,
        };
        let from = match &self.from {
            Some(from) => day("from", from)?,
            None => to
                .checked_sub(DAY * u32::try_from(DEFAULT_DAYS).unwrap_or(1))
                .unwrap_or(SystemTime::UNIX_EPOCH),
        };
        if from >= to {
            return Err(ApiError::bad_request("from must not be after to"));
        }
        Ok((from, to))
    }
}
