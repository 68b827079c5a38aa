//! The log of administrative acts, as administrators read it.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Api, ApiError, rfc3339};
use crate::prices::parse_day;
use crate::store::{AuditFilter, AuditRow};

/// Most rows of one answer.
const MAX_LIMIT: usize = 500;

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Who has done it: a user id, or the number of an operating-system user.
    who: Option<String>,
    /// The user that it was done to.
    user: Option<String>,
    /// What was done, such as `user.disable`.
    action: Option<String>,
    /// The id of an act.
    act: Option<String>,
    /// The first day, in UTC.
    from: Option<String>,
    /// The last day, in UTC.
    to: Option<String>,
    /// `next` of the answer before.
    before: Option<String>,
    #[serde(default = "default_limit")]
    limit: usize,
}

const fn default_limit() -> usize {
    MAX_LIMIT
}

/// `GET /api/admin/audit?who&user&action&act&from&to&before&limit`: what was done, the latest first; `next` is what to ask
/// for `before` where there is more.
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(page) = page.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        let message = format!("limit: must be a number from 1 to {MAX_LIMIT}");
        return Err(ApiError::bad_request(message));
    }
    if !page.before.iter().all(|id| id.parse::<Uuid>().is_ok()) {
        return Err(ApiError::bad_request(
            "before: must be the id of a row, as `next` of the last answer",
        ));
    }
    let filter = AuditFilter {
        from: day("from", page.from.as_deref())?,
        // Until the day is over.
        to: day("to", page.to.as_deref())?.and_then(|day| day.checked_add(DAY)),
        actor: page.who,
        user_id: page.user,
        action: page.action,
        act: page.act,
    };
    let rows = api.store.audit(filter, page.before, page.limit + 1).await;
    let mut rows = rows.map_err(|error| ApiError::unavailable("store", &error))?;
    let has_more = rows.len() > page.limit;
    rows.truncate(page.limit);
    let next = rows.last().filter(|_| has_more);
    let next = next.map(|row| row.note.id.clone());
    let rows: Vec<_> = rows.into_iter().map(shown).collect();
    Ok(Json(json!({ "audit": rows, "next": next })))
}

fn day(name: &str, text: Option<&str>) -> Result<Option<SystemTime>, ApiError> {
    let day = text.map(|text| {
        parse_day(text)
            .ok_or_else(|| ApiError::bad_request(format!("{name}: must be a day like 2026-01-31")))
    });
    day.transpose()
}

fn shown(AuditRow { note, at, .. }: AuditRow) -> Value {
    json!({
        "id": note.id,
        "act": note.act,
        "at": rfc3339(at),
        "who": { "kind": note.actor_kind.as_str(), "id": note.actor },
        "address": note.address,
        "action": note.action,
        "user": note.user_id,
        "object": note.object,
        "before": note.before,
        "after": note.after,
        "result": note.outcome.as_str(),
        "code": note.code,
    })
}
