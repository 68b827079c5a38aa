use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin_quota::{refusal, shown_terms};
use super::{Api, ApiError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<String>,
    #[serde(default = "default_limit")]
    limit: usize,
}

/// Most people of one answer.
const MAX_LIMIT: usize = 200;

/// `GET /api/admin/quotas?after&limit`: everybody of whom something is special, by user; `next` is what to ask for `after`
/// where there are more.
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(page) = page.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if !(1..=MAX_LIMIT).contains(&page.limit) {
        let message = format!("limit: must be a number from 1 to {MAX_LIMIT}");
        return Err(ApiError::bad_request(message));
    }
    // No user id is empty.
    let after = page.after.unwrap_or_default();
    let subjects = api.store.subjects_with_terms(after, page.limit + 1).await;
    let mut subjects = subjects.map_err(|error| ApiError::unavailable("store", &error))?;
    let has_more = subjects.len() > page.limit;
    subjects.truncate(page.limit);
    let mut quotas = Vec::with_capacity(subjects.len());
    for subject in &subjects {
        let terms = api.terms.of(subject).await.map_err(refusal)?;
        let mut quota = shown_terms(&terms);
        quota.insert("user".to_owned(), json!(subject));
        quotas.push(quota);
    }
    let next = subjects.last().filter(|_| has_more);
    Ok(Json(json!({ "quotas": quotas, "next": next })))
}

fn default_limit() -> usize {
    MAX_LIMIT
}
