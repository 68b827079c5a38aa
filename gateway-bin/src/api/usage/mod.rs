//! What people have used, by `GET /api/usage…`, and what everybody has, for administrators.

mod comparison;
mod csv;
pub(super) mod export;
mod query;
pub(super) mod reconcile;
pub(super) mod reprice;
mod shown;

use std::sync::Arc;

use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tower_sso::Identity;
use utoipa::ToSchema;

pub(super) use self::export::json_lines;
use self::query::{Grouping, Page, Range};
pub(crate) use self::reconcile::ADDS_UP;
use self::shown::{ShownRecord, ShownSum};
use super::{Api, ApiError, rfc3339};
use crate::records::{Whose, group_key};

/// What was used, from the first day's beginning until before the last day's end, in UTC.
#[derive(Serialize, ToSchema)]
pub(super) struct Totals {
    #[schema(format = DateTime)]
    from: String,
    #[schema(format = DateTime)]
    to: String,
    total: ShownSum,
    groups: Vec<Group>,
}

/// A part of it, with `day`, `model`, `session` or `user`: null where it is not known.
#[derive(Serialize, ToSchema)]
struct Group {
    #[serde(flatten)]
    sum: ShownSum,
    /// What they have in common, by the name of that.
    #[serde(flatten)]
    key: Map<String, Value>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct RecordPage {
    records: Vec<ShownRecord>,
    /// What to ask for `before` where there are more.
    next: Option<String>,
}

/// What the caller has used.
#[utoipa::path(
    get,
    path = "/api/usage",
    params(
        ("from" = Option<String>, Query, format = Date, description = "the first day, in UTC; 30 days ago unless it is said"),
        ("to" = Option<String>, Query, format = Date, description = "the last day, in UTC; today unless it is said"),
        ("group_by" = Option<String>, Query, description = "`day`, `model` or `session`; `day` unless it is said"),
    ),
    responses((status = OK, body = Totals, description = "in all, and in groups"))
)]
pub(super) async fn totals(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<Json<Totals>, ApiError> {
    let range = query::read(range)?.of_oneself()?;
    added_up(&api, Some(Arc::clone(identity.user_id())), &range).await
}

/// What somebody, or everybody, has used.
#[utoipa::path(
    get,
    path = "/api/admin/usage",
    params(Range),
    responses((status = OK, body = Totals, description = "in all, and in groups"))
)]
pub(super) async fn totals_of_all(
    State(api): State<Api>,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<Json<Totals>, ApiError> {
    let range = query::read(range)?;
    added_up(&api, range.user.clone(), &range).await
}

async fn added_up(api: &Api, whose: Whose, range: &Range) -> Result<Json<Totals>, ApiError> {
    let span = range.span()?;
    let total = api.records.sum(whose.clone(), span).await;
    let total = total.map_err(|error| ApiError::unavailable("ledger", &error))?;
    let groups = api.records.totals(whose, span, range.group_by.into()).await;
    let groups = groups.map_err(|error| ApiError::unavailable("ledger", &error))?;
    let groups = groups.iter().map(|row| {
        let (name, key) = group_key(&row.group);
        Group {
            sum: shown::sum(&row.sum),
            key: Map::from_iter([(name.to_owned(), json!(key))]),
        }
    });
    Ok(Json(Totals {
        from: rfc3339(span.from),
        to: rfc3339(span.to),
        total: shown::sum(&total),
        groups: groups.collect(),
    }))
}

/// The caller's usage records, the latest ones first.
#[utoipa::path(
    get,
    path = "/api/usage/records",
    params(
        ("from" = Option<String>, Query, format = Date, description = "the first day, in UTC; 30 days ago unless it is said"),
        ("to" = Option<String>, Query, format = Date, description = "the last day, in UTC; today unless it is said"),
        ("before" = Option<String>, Query, description = "`next` of the answer before"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 500, description = "most records of the answer"),
    ),
    responses((status = OK, body = RecordPage, description = "records"))
)]
pub(super) async fn records(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<RecordPage>, ApiError> {
    let page = query::read(page)?.of_oneself()?;
    latest(&api, Some(Arc::clone(identity.user_id())), &page).await
}

/// The usage records of somebody, or of everybody, the latest ones first.
#[utoipa::path(
    get,
    path = "/api/admin/usage/records",
    params(Page),
    responses((status = OK, body = RecordPage, description = "records"))
)]
pub(super) async fn records_of_all(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<RecordPage>, ApiError> {
    let page = query::read(page)?;
    latest(&api, page.user.clone(), &page).await
}

async fn latest(api: &Api, whose: Whose, page: &Page) -> Result<Json<RecordPage>, ApiError> {
    let (span, limit, before) = (page.span()?, page.limit()?, page.before()?);
    let records = api.records.latest(whose, span, limit + 1, before).await;
    let mut records = records.map_err(|error| ApiError::unavailable("ledger", &error))?;
    let has_more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().filter(|_| has_more);
    let next = next.map(|record| record.id.to_string());
    let records = records.iter().map(shown::record).collect();
    Ok(Json(RecordPage { records, next }))
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
