use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use serde::Deserialize;
use tower_usage::RecordId;
use utoipa::{IntoParams, ToSchema};

use crate::api::ApiError;
use crate::clock;
use crate::prices::parse_day;
use crate::records::Span;

/// Days shown when the caller does not say from when.
const DEFAULT_DAYS: u32 = 30;

const DAY: Duration = Duration::from_secs(86_400);

/// Most records of one answer.
const PAGE: usize = 500;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Range {
    /// The first day, in UTC; 30 days ago unless it is said.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, in UTC; today unless it is said.
    #[param(format = Date)]
    to: Option<String>,
    #[serde(default)]
    #[param(inline, default = "day")]
    pub(super) group_by: Grouping,
    /// A user id; everybody unless it is said.
    pub(super) user: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grouping {
    #[default]
    Day,
    Model,
    Session,
    User,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Page {
    /// The first day, in UTC; 30 days ago unless it is said.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, in UTC; today unless it is said.
    #[param(format = Date)]
    to: Option<String>,
    /// `next` of the answer before.
    before: Option<String>,
    /// Most records of the answer.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 500, default = 500)]
    limit: usize,
    /// A user id; everybody unless it is said.
    pub(super) user: Option<Arc<str>>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Exported {
    /// The first day, in UTC; 30 days ago unless it is said.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, in UTC; today unless it is said.
    #[param(format = Date)]
    to: Option<String>,
    #[param(inline)]
    pub(super) format: Format,
    /// A user id; everybody unless it is said.
    pub(super) user: Option<Arc<str>>,
}

/// Form of an export.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Csv,
    Jsonl,
}

const fn default_limit() -> usize {
    PAGE
}

pub(super) fn read<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| ApiError::bad_request(rejection.body_text()))
}

fn others() -> ApiError {
    ApiError::bad_request("user: only administrators see others' usage, by /api/admin/usage")
}

// === impl Range ===

impl Range {
    /// The same, if nobody else is asked about.
    pub(super) fn of_oneself(self) -> Result<Self, ApiError> {
        match self.user.is_some() || self.group_by == Grouping::User {
            true => Err(others()),
            false => Ok(self),
        }
    }

    pub(super) fn span(&self) -> Result<Span, ApiError> {
        span(self.from.as_deref(), self.to.as_deref())
    }
}

// === impl Page ===

impl Page {
    /// The same, if nobody else is asked about.
    pub(super) fn of_oneself(self) -> Result<Self, ApiError> {
        match self.user.is_some() {
            true => Err(others()),
            false => Ok(self),
        }
    }

    pub(super) fn span(&self) -> Result<Span, ApiError> {
        span(self.from.as_deref(), self.to.as_deref())
    }

    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        match (1..=PAGE).contains(&self.limit) {
            true => Ok(self.limit),
            false => Err(ApiError::bad_request(format!(
                "limit: must be a number from 1 to {PAGE}"
            ))),
        }
    }

    pub(super) fn before(&self) -> Result<Option<RecordId>, ApiError> {
        let before = self.before.as_ref().map(|before| before.parse());
        before.transpose().map_err(|_| {
            ApiError::bad_request(
                "before: must be the id of a record, as `next` of the last answer",
            )
        })
    }
}

// === impl Exported ===

impl Exported {
    /// The same, if nobody else is asked about.
    pub(super) fn of_oneself(self) -> Result<Self, ApiError> {
        match self.user.is_some() {
            true => Err(others()),
            false => Ok(self),
        }
    }

    pub(super) fn span(&self) -> Result<Span, ApiError> {
        span(self.from.as_deref(), self.to.as_deref())
    }
}

/// From the first day's beginning until before the last day's end, in UTC.
pub(super) fn span(from: Option<&str>, to: Option<&str>) -> Result<Span, ApiError> {
    let day = |name: &str, text: &str| {
        parse_day(text)
            .ok_or_else(|| ApiError::bad_request(format!("{name} must be a day like 2026-01-31")))
    };
    let to = match to {
        Some(to) => day("to", to)?.checked_add(DAY),
        None => clock::now().checked_add(DAY),
    };
    // What cannot be written in an answer is no day either.
    let to = to.filter(|to| jiff::Timestamp::try_from(*to).is_ok());
    let to = to.ok_or_else(|| ApiError::bad_request("to is too far in the future"))?;
    let from = match from {
        Some(from) => day("from", from)?,
        None => to
            .checked_sub(DAY * DEFAULT_DAYS)
            .unwrap_or(SystemTime::UNIX_EPOCH),
    };
    if from >= to {
        return Err(ApiError::bad_request("from must not be after to"));
    }
    Ok(Span { from, to })
}
