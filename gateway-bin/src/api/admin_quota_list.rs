use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::admin_quota::{ShownTerms, refusal, shown_terms};
use super::{Api, ApiError};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// `next` of the answer before.
    after: Option<String>,
    /// Most people of the answer.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 200, default = 200)]
    limit: usize,
}

#[derive(Serialize, ToSchema)]
pub(super) struct QuotaPage {
    quotas: Vec<ListedTerms>,
    /// What to ask for `after` where there are more.
    next: Option<Arc<str>>,
}

#[derive(Serialize, ToSchema)]
struct ListedTerms {
    user: Arc<str>,
    #[serde(flatten)]
    terms: ShownTerms,
}

/// Most people of one answer.
const MAX_LIMIT: usize = 200;

/// Everybody whose quota is special, by user.
#[utoipa::path(
    get,
    path = "/api/admin/quotas",
    params(Page),
    responses((status = OK, body = QuotaPage, description = "what is special, without how they stand"))
)]
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<QuotaPage>, ApiError> {
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
        quotas.push(ListedTerms {
            user: Arc::clone(subject),
            terms: shown_terms(&terms),
        });
    }
    let next = subjects.last().filter(|_| has_more).cloned();
    Ok(Json(QuotaPage { quotas, next }))
}

fn default_limit() -> usize {
    MAX_LIMIT
}
