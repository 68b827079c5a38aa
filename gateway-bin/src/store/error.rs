use std::path::PathBuf;

use thiserror::Error;

/// Why the store did not do it. What it says holds neither the database's URL nor its password.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another gateway has the file.
    #[error("{} is in use by another gateway; one `serve` for each file", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or locked.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The URL does not name a database.
    #[error(
        "the URL is not Postgres's, or has a parameter that is not known (sslmode is disable, prefer or require)"
    )]
    Url,
    /// There is no connection to the server.
    #[error("there is no connection to the store: {source}")]
    NoConnection {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server does not answer in time. What it was asked it may do nevertheless.
    #[error("the store does not answer")]
    Silent,
    /// The tables are of a newer version of the gateway.
    #[error(
        "the store has tables of version {version}, which this gateway does not know; use the newer gateway"
    )]
    Newer {
        /// Version of the tables.
        version: u32,
    },
    /// The gateway stops.
    #[error("the store is closed")]
    Stopped,
    /// A row is not as this gateway writes it.
    #[error("a row of the store cannot be read")]
    Unreadable,
    /// SQLite failed.
    #[error("store failed")]
    Sqlite(#[from] rusqlite::Error),
    /// Postgres failed.
    #[error("store failed")]
    Postgres(#[from] tokio_postgres::Error),
}
