use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

/// What both parties say.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Comparison {
    #[schema(format = DateTime)]
    pub(super) from: String,
    #[schema(format = DateTime)]
    pub(super) to: String,
    /// Those that were asked.
    pub(super) instances: Vec<String>,
    /// How many of these users' tokens differ.
    pub(super) differing: usize,
    pub(super) users: Vec<ComparedUser>,
    /// What to ask for `after` where there are more.
    pub(super) next: Option<Arc<str>>,
}

/// A user's tokens, as both have them.
#[derive(Serialize, ToSchema)]
pub(super) struct ComparedUser {
    pub(super) user: Arc<str>,
    pub(super) agent: Option<String>,
    pub(super) ledger: ShownTokens,
    pub(super) instance: ShownTokens,
    pub(super) differs: bool,
    /// Those that differ.
    pub(super) sessions: Vec<ComparedSession>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ComparedSession {
    pub(super) session_key: String,
    pub(super) agent: Option<String>,
    pub(super) ledger: ShownTokens,
    pub(super) instance: ShownTokens,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownTokens {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) cache_read_tokens: u64,
    pub(super) cache_write_tokens: u64,
    pub(super) total_tokens: u64,
}
