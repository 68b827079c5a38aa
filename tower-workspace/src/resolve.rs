use std::{
    error::Error as StdError,
    fmt,
    future::{self, Future},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use thiserror::Error;

use crate::{NameError, Workspace};

/// Finds the workspace of a user.
///
/// Closures are resolvers. A resolver that has the answer in memory returns
/// [`ResolveFuture::ready`], which allocates nothing; one that has to ask returns
/// [`ResolveFuture::boxed`]. The future may be dropped before it is done.
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
    /// The future fails with [`ResolveError`], for the reason the variant says.
    fn resolve(&self, user_id: &Arc<str>) -> ResolveFuture;
}

/// What a [`WorkspaceResolver`] returns: a workspace now or later.
#[must_use = "futures do nothing unless polled"]
pub struct ResolveFuture(Inner);

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

type Output = Result<Arc<Workspace>, ResolveError>;

enum Inner {
    Ready(future::Ready<Output>),
    Boxed(Pin<Box<dyn Future<Output = Output> + Send>>),
}

impl<F> WorkspaceResolver for F
where
    F: Fn(&Arc<str>) -> ResolveFuture + Send + Sync + 'static,
{
    fn resolve(&self, user_id: &Arc<str>) -> ResolveFuture {
        self(user_id)
    }
}

// === impl ResolveFuture ===

impl ResolveFuture {
    /// A future that is done. Allocates nothing.
    pub fn ready(result: Result<Arc<Workspace>, ResolveError>) -> Self {
        Self(Inner::Ready(future::ready(result)))
    }

    /// A future that has work to do.
    pub fn boxed<F>(future: F) -> Self
    where
        F: Future<Output = Result<Arc<Workspace>, ResolveError>> + Send + 'static,
    {
        Self(Inner::Boxed(Box::pin(future)))
    }

    /// The result if it is there without waiting, else the future itself.
    pub(crate) fn into_ready(self) -> Result<Output, Self> {
        match self.0 {
            Inner::Ready(ready) => Ok(ready.into_inner()),
            boxed @ Inner::Boxed(_) => Err(Self(boxed)),
        }
    }
}

impl Future for ResolveFuture {
    type Output = Result<Arc<Workspace>, ResolveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Ready(ready) => Pin::new(ready).poll(cx),
            Inner::Boxed(boxed) => boxed.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for ResolveFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolveFuture").finish_non_exhaustive()
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
