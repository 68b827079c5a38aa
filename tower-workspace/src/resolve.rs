use std::{error::Error as StdError, sync::Arc, time::Duration};

use thiserror::Error;

use crate::{NameError, ResolveFuture};

/// Finds the workspace of a user.
///
/// Closures are resolvers. A resolver that has the answer in memory returns
/// [`ResolveFuture::ready`], which allocates nothing; one that has to ask returns
/// [`ResolveFuture::boxed`].
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use tower_workspace::{ResolveFuture, Workspace, WorkspaceResolver};
///
/// let resolver: Arc<dyn WorkspaceResolver> = Arc::new(|user_id: &Arc<str>| {
///     let workspace = Workspace::new(Arc::clone(user_id), "/data/users");
///     ResolveFuture::ready(workspace.map(Arc::new).map_err(Into::into))
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot find the workspace of a user",
    note = "implement `WorkspaceResolver`, or pass a closure `Fn(&Arc<str>) -> ResolveFuture`"
)]
pub trait WorkspaceResolver: Send + Sync + 'static {
    /// Finds the workspace of `user_id`.
    ///
    /// # Errors
    ///
    /// The future resolves to a [`ResolveError`], for the reason that the variant says.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time. What it has begun, such as making directories, may be
    /// completed or not.
    fn resolve(&self, user_id: &Arc<str>) -> ResolveFuture;
}

/// Why a request has no workspace.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The request names no user.
    #[error("request names no user")]
    NoUser,
    /// The user id can have no workspace.
    #[error("user id can have no workspace")]
    InvalidUser(#[from] NameError),
    /// The user has no workspace yet: it must be asked for first.
    #[error("workspace is not provisioned")]
    NotProvisioned,
    /// The workspace, or what knows of it, cannot be reached now.
    #[error("workspace is unavailable")]
    Unavailable {
        /// What failed.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The workspace is being prepared.
    #[error("workspace is starting")]
    Starting {
        /// When to ask again.
        retry_after: Duration,
    },
}

// === impl WorkspaceResolver ===

impl<F> WorkspaceResolver for F
where
    F: Fn(&Arc<str>) -> ResolveFuture + Send + Sync + 'static,
{
    fn resolve(&self, user_id: &Arc<str>) -> ResolveFuture {
        self(user_id)
    }
}

// === impl ResolveError ===

impl ResolveError {
    /// [`ResolveError::Unavailable`] because of `source`.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable {
            source: source.into(),
        }
    }

    /// A stable name of the variant, for the error code of a protocol.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoUser => "unauthorized",
            Self::InvalidUser(_) => "workspace_invalid_user",
            Self::NotProvisioned => "workspace_not_provisioned",
            Self::Unavailable { .. } => "workspace_unavailable",
            Self::Starting { .. } => "workspace_starting",
        }
    }

    /// When the same request may succeed, if waiting alone can help: what a
    /// [`Starting`](Self::Starting) says, and five seconds for an
    /// [`Unavailable`](Self::Unavailable).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Starting { retry_after } => Some(*retry_after),
            Self::Unavailable { .. } => Some(Duration::from_secs(5)),
            _ => None,
        }
    }
}
