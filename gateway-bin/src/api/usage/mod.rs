//! What people have used, by `GET /api/usage…`, and what everybody has, for administrators.

mod csv;
mod export;
mod query;
mod reconcile;
mod reprice;
mod shown;

use std::sync::Arc;

use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::{Extension, Json};
use serde_json::{Value, json};
use tower_sso::Identity;

pub(super) use self::export::{export, export_all, json_lines};
use self::query::{Grouping, Page, Range};
pub(super) use self::reconcile::reconcile;
pub(super) use self::reprice::reprice;
use super::{Api, ApiError, rfc3339};
use crate::records::{Whose, group_key};

/// `GET /api/usage?from&to&group_by=day|model|session`
pub(super) async fn totals(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let range = query::read(range)?.of_oneself()?;
    added_up(&api, Some(Arc::clone(identity.user_id())), &range).await
}

/// `GET /api/admin/usage?user&from&to&group_by=day|model|session|user`: of somebody, or of everybody.
pub(super) async fn totals_of_all(
    State(api): State<Api>,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let range = query::read(range)?;
    added_up(&api, range.user.clone(), &range).await
}

async fn added_up(api: &Api, whose: Whose, range: &Range) -> Result<Json<Value>, ApiError> {
    let span = range.span()?;
    let total = api.records.sum(whose.clone(), span).await;
    let total = total.map_err(|error| ApiError::unavailable("ledger", &error))?;
    let groups = api.records.totals(whose, span, range.group_by.into()).await;
    let groups = groups.map_err(|error| ApiError::unavailable("ledger", &error))?;
    let groups = groups.iter().map(|row| {
        let mut value = shown::sum(&row.sum);
        let (name, key) = group_key(&row.group);
        value.insert(name.to_owned(), json!(key));
        value
    });
    let groups: Vec<_> = groups.collect();
    Ok(Json(json!({
        "from": rfc3339(span.from), "to": rfc3339(span.to), "total": shown::sum(&total), "groups": groups,
    })))
}

/// `GET /api/usage/records?from&to&before&limit`: the latest ones first; `next` is what to ask for `before` where there are
/// more.
pub(super) async fn records(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let page = query::read(page)?.of_oneself()?;
    latest(&api, Some(Arc::clone(identity.user_id())), &page).await
}

/// `GET /api/admin/usage/records?user&from&to&before&limit`: the same of somebody, or of everybody.
pub(super) async fn records_of_all(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let page = query::read(page)?;
    latest(&api, page.user.clone(), &page).await
}

async fn latest(api: &Api, whose: Whose, page: &Page) -> Result<Json<Value>, ApiError> {
    let (span, limit, before) = (page.span()?, page.limit()?, page.before()?);
    let records = api.records.latest(whose, span, limit + 1, before).await;
    let mut records = records.map_err(|error| ApiError::unavailable("ledger", &error))?;
    let has_more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().filter(|_| has_more);
    let next = next.map(|record| record.id.to_string());
    let records: Vec<_> = records.iter().map(shown::record).collect();
    Ok(Json(json!({ "records": records, "next": next })))
}

impl From<Grouping> for tower_usage::sqlite::GroupBy {
    fn from(grouping: Grouping) -> Self {
        match grouping {
            Grouping::Day => Self::Day,
            Grouping::Model => Self::Model,
            Grouping::Session => Self::Session,
            Grouping::User => Self::User,
        }
    }
}
