use std::path::Path;

use super::{StoreError, postgres, sqlite};

/// What tables there are: the versions of those that have one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Found {
    /// The gateway's own; zero: none.
    pub state: u32,
    /// The ledger's; zero: none.
    pub ledger: u32,
    /// Whether there are those of sessions.
    pub sessions: bool,
    /// Whether there are those of counters.
    pub counters: bool,
}

/// The table that says which version the gateway's own are of.
pub(super) const STATE: &str = "gateway_schema";

/// The same of the ledger's: see `tower_usage::sqlite::SCHEMA`.
pub(super) const LEDGER: &str = "token_usage_schema";

/// One of those that `tower-sso` makes, all in one go.
pub(super) const SESSIONS: &str = "sso_records";

/// One of those that `tower-quota` makes, all in one go.
pub(super) const COUNTERS: &str = "quota_accounts";

/// What is in a file, which is not changed, nor made, and which a gateway may have.
///
/// # Errors
///
/// [`StoreError::Sqlite`] if it cannot be read.
pub fn find_in_file(path: &Path) -> Result<Found, StoreError> {
    match path.exists() {
        true => sqlite::find(path),
        false => Ok(Found::default()),
    }
}

/// What is in a Postgres, which is not changed.
///
/// # Errors
///
/// See [`StoreError`].
pub async fn find_in_database(url: &str) -> Result<Found, StoreError> {
    postgres::find(url).await
}
