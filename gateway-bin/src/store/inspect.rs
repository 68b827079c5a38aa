//! What a store says of itself to who only looks.

use super::{StoreError, postgres};

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
