//! The log of administrative acts, as administrators read it.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Api, ApiError, rfc3339};
use crate::prices::parse_day;
use crate::store::{AuditFilter, AuditRow};

/// Most rows of one answer.
const MAX_LIMIT: usize = 500;

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
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
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, in UTC.
    #[param(format = Date)]
    to: Option<String>,
    /// `next` of the answer before.
    #[param(format = "uuid")]
    before: Option<String>,
    /// Most rows of the answer.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 500, default = 500)]
    limit: usize,
}

#[derive(Serialize, ToSchema)]
pub(super) struct AuditPage {
    audit: Vec<Noted>,
    /// What to ask for `before` where there is more.
    next: Option<String>,
}

/// What was noted of an act.
#[derive(Serialize, ToSchema)]
struct Noted {
    id: String,
    /// The act's id: what is noted before it and after it has the same.
    act: String,
    #[schema(format = DateTime)]
    at: String,
    who: Who,
    /// Where they were.
    address: Option<String>,
    action: String,
    /// The user that it was done to.
    user: Option<String>,
    /// What else it was done to.
    object: Option<String>,
    /// What it was done to, before.
    before: Option<Value>,
    after: Option<Value>,
    /// `begun`, `done`, `refused` or `failed`.
    result: &'static str,
    /// Why it was not done.
    code: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Who {
    /// `user`, `operator` or `signal`.
    kind: &'static str,
    id: String,
}

const fn default_limit() -> usize {
    MAX_LIMIT
}

/// What administrators have done, the latest first.
#[utoipa::path(
    get,
    path = "/api/admin/audit",
    params(Page),
    responses((status = OK, body = AuditPage, description = "what fits all that is said"))
)]
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<AuditPage>, ApiError> {
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
    let audit = rows.into_iter().map(shown).collect();
    Ok(Json(AuditPage { audit, next }))
}

fn day(name: &str, text: Option<&str>) -> Result<Option<SystemTime>, ApiError> {
    let day = text.map(|text| {
        parse_day(text)
            .ok_or_else(|| ApiError::bad_request(format!("{name}: must be a day like 2026-01-31")))
    });
    day.transpose()
}

fn shown(AuditRow { note, at, .. }: AuditRow) -> Noted {
    Noted {
        id: note.id,
        act: note.act,
        at: rfc3339(at),
        who: Who {
            kind: note.actor_kind.as_str(),
            id: note.actor,
        },
        address: note.address,
        action: note.action,
        user: note.user_id,
        object: note.object,
        before: note.before,
        after: note.after,
        result: note.outcome.as_str(),
        code: note.code,
    }
}
