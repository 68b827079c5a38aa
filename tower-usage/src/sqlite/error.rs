use std::{error::Error, io};

/// Why a ledger could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// SQLite said no.
    #[error("the usage ledger cannot be read or written")]
    Store(#[source] Box<dyn Error + Send + Sync>),
    /// The file was written by a later version of this crate.
    #[error(
        "the usage ledger has schema version {found}, this program knows versions up to {known}"
    )]
    NewerSchema {
        /// The version of the file.
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
    /// The ledger was closed, or its settler has ended.
    #[error("the usage ledger is closed")]
    Closed,
}

// === impl LedgerError ===

impl LedgerError {
    pub(super) fn store(error: rusqlite::Error) -> Self {
        Self::Store(Box::new(error))
    }
}
