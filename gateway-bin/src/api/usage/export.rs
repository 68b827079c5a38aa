use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde_json::json;
use tower_sso::Identity;
use tower_usage::UsageRecord;

use super::query::{self, Exported, Format};
use super::{csv, shown};
use crate::api::{Api, ApiError};

/// All usage records of the caller, the first ones first.
///
/// An answer that breaks off is not all.
#[utoipa::path(
    get,
    path = "/api/usage/export",
    params(
        ("format" = inline(Format), Query, description = "a table, or a record on each line"),
        ("from" = Option<String>, Query, format = Date, description = "the first day, in UTC; 30 days ago unless it is said"),
        ("to" = Option<String>, Query, format = Date, description = "the last day, in UTC; today unless it is said"),
    ),
    responses(
        (
            status = OK,
            description = "a table, or a record on each line",
            content((String = "text/csv"), (String = "application/jsonl"))
        ),
    )
)]
pub(in crate::api) async fn export(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    wanted: Result<Query<Exported>, QueryRejection>,
) -> Result<Response, ApiError> {
    let wanted = query::read(wanted)?.of_oneself()?;
    exported(&api, Some(identity.user_id()), &wanted)
}

/// All usage records of somebody, or of everybody, the first ones first.
///
/// An answer that breaks off is not all.
#[utoipa::path(
    get,
    path = "/api/admin/usage/export",
    params(Exported),
    responses(
        (
            status = OK,
            description = "a table, or a record on each line",
            content((String = "text/csv"), (String = "application/jsonl"))
        ),
    )
)]
pub(in crate::api) async fn export_all(
    State(api): State<Api>,
    wanted: Result<Query<Exported>, QueryRejection>,
) -> Result<Response, ApiError> {
    let wanted = query::read(wanted)?;
    exported(&api, wanted.user.as_deref(), &wanted)
}

/// Sent page by page while it is read: whoever reads slowly keeps one page in memory, and none read ahead.
fn exported(api: &Api, whose: Option<&str>, wanted: &Exported) -> Result<Response, ApiError> {
    let format = wanted.format;
    let pages = api.records.export(whose, wanted.span()?);
    let pages = pages.map(move |page| page.map(|page| Bytes::from(lines(&page, format))));
    let (kind, name, first) = match format {
        Format::Csv => (
            "text/csv; charset=utf-8",
            "attachment; filename=\"usage.csv\"",
            Some(Ok(Bytes::from_static(csv::HEADER.as_bytes()))),
        ),
        Format::Jsonl => (
            "application/jsonl",
            "attachment; filename=\"usage.jsonl\"",
            None,
        ),
    };
    // An error on the way ends the connection, so that nobody takes a part for the whole.
    let mut response = Response::new(Body::from_stream(stream::iter(first).chain(pages)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(response)
}

/// Records as JSON lines.
pub(in crate::api) fn json_lines(page: &[UsageRecord]) -> String {
    lines(page, Format::Jsonl)
}

fn lines(page: &[UsageRecord], format: Format) -> String {
    let mut lines = String::new();
    for record in page {
        match format {
            Format::Csv => csv::line(record, &mut lines),
            Format::Jsonl => {
                lines += &json!(shown::record(record)).to_string();
                lines.push('\n');
            }
        }
    }
    lines
}
