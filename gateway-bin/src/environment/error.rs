use std::sync::Arc;

use thiserror::Error;
use tower_workspace::NameError;
use tracing::warn;

use crate::cells::CellError;

/// Said to somebody for whom there is [no sandbox](EnvironmentError::NoSandbox).
pub(crate) const NO_SANDBOX: &str =
    "your tools must run in a sandbox, and there is none; tell your administrator";

/// Why somebody has no environment right now.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// The user id cannot name a directory.
    #[error("user id can have no workspace")]
    InvalidUser(#[from] NameError),
    /// All places are taken.
    #[error("no instance has a place left")]
    Full,
    /// The instance that has somebody's conversations is not there.
    #[error("instance {0} is away")]
    Away(Arc<str>),
    /// Their tools must run in a sandbox, and the instance has none.
    #[error("instance has no sandbox")]
    NoSandbox,
    /// Their cell does not run yet, or cannot.
    #[error("cell: {0}")]
    Cell(#[from] CellError),
    /// Something that it needs does not answer.
    #[error("{what} failed")]
    Unavailable {
        /// What failed.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(super) fn unavailable(
    what: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> EnvironmentError {
    warn!(
        what,
        error = &source as &dyn std::error::Error,
        "environment cannot be opened"
    );
    EnvironmentError::Unavailable {
        what,
        source: Box::new(source),
    }
}
