use std::{error::Error, io};

/// Why a ledger could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// SQLite or Postgres said no.
    #[error("the usage ledger cannot be read or written")]
    Store(#[source] Box<dyn Error + Send + Sync>),
    /// The file or database was written by a later version of this crate.
    #[error(
        "the usage ledger has schema version {found}, this program knows versions up to {known}"
    )]
    NewerSchema {
        /// The version found.
        found: i64,
        /// The latest version this program knows.
        known: i64,
    },
    /// The writer thread could not be started.
    #[error("the writer of the usage ledger cannot be started")]
    Thread(#[source] io::Error),
    /// Settling needs the tokio runtime that it is started on.
    #[error("there is no runtime to settle on")]
    NoRuntime,
    /// Settling was started before.
    #[error("the usage ledger is being settled already")]
    AlreadySettling,
    /// The ledger is being shipped already.
    #[error("the usage ledger is being shipped already")]
    AlreadyShipping,
    /// It is no URL of a Postgres database. It may hold a password, so what is wrong is not said in its own words.
    #[error(
        "the URL is not Postgres's, or has a parameter that is not known (sslmode is disable, prefer or require)"
    )]
    Url,
    /// The database cannot be reached, or did not answer in time.
    #[error("the database of the usage ledger is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// The database does not keep text as UTF-8, so that it cannot keep every text.
    #[error("the database of the usage ledger has encoding {0}, not UTF8")]
    Encoding(String),
    /// The ledger was closed, or its settler has ended.
    #[error("the usage ledger is closed")]
    Closed,
}

// === impl LedgerError ===

impl LedgerError {
    pub(super) fn store(error: rusqlite::Error) -> Self {
        Self::Store(Box::new(error))
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Store(error.into())
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}
