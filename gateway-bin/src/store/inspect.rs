//! What a store says of itself to who only looks.

use std::path::Path;

use super::StoreError;
use super::{postgres, sqlite};

/// The version of the tables that this gateway works with.
pub const TABLES: u32 = sqlite::LATEST;

/// What a Postgres says of itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inspected {
    /// The server's version.
    pub version: String,
    /// The version of TLS on the connection, if there is any.
    pub tls: Option<String>,
    /// Whether nothing can be written.
    pub is_read_only: bool,
    /// Whether tables can be made, in the first schema of the search path.
    pub may_create: bool,
    /// The version of the gateway's tables; zero if there are none.
    pub tables: u32,
}

/// Looks at the Postgres that `url` names, as [`Store::connect`](super::Store::connect) would connect to it, and changes
/// nothing there.
///
/// # Errors
///
/// See [`StoreError`].
pub async fn inspect_server(url: &str) -> Result<Inspected, StoreError> {
    postgres::inspect(url).await
}

/// The version of the gateway's tables in an SQLite file, zero if there are none; `None` if it cannot be told without
/// changing something, since it may be in the journal beside a file that nobody has. Blocks.
///
/// # Errors
///
/// See [`StoreError`].
pub fn inspect_file(path: &Path, is_in_use: bool) -> Result<Option<u32>, StoreError> {
    sqlite::inspect(path, is_in_use)
}
