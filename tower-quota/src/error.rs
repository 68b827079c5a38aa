use std::error::Error;

use crate::Denied;

/// A store could not answer.
#[derive(Debug, thiserror::Error)]
#[error("quota store unavailable")]
pub struct StoreError {
    source: Box<dyn Error + Send + Sync>,
}

// === impl StoreError ===

impl StoreError {
    /// The store could not answer, because of `source`.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
        }
    }
}

/// Nothing was reserved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// A limit does not leave enough.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The store could not answer; whether something is left is not known.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}
