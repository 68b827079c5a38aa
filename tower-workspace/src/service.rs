use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{Bind, ResolveError, ResponseFuture, WorkspaceResolver};

/// Middleware that resolves the user's workspace and binds it to the request.
///
/// A request that names no user, or whose workspace cannot be resolved, is answered with
/// [`Bind::reject`] and does not reach the inner service. If the answer is there at once, the inner
/// service is called at once too and never cloned. See the [crate documentation](crate).
///
/// # Cancel safety
///
/// Dropping a [`ResponseFuture`] drops the resolver's future or the inner service's.
#[derive(Clone)]
pub struct BindWorkspace<S, B> {
    inner: S,
    resolver: Arc<dyn WorkspaceResolver>,
    bind: B,
}

// === impl BindWorkspace ===

impl<S, B> BindWorkspace<S, B> {
    /// Wraps `inner`.
    pub fn new(inner: S, resolver: Arc<dyn WorkspaceResolver>, bind: B) -> Self {
        Self {
            inner,
            resolver,
            bind,
        }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Unwraps the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, Req> Service<Req> for BindWorkspace<S, B>
where
    S: Service<Req> + Clone,
    B: Bind<Req, S::Response> + Clone,
{
    type Response = B::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Req) -> Self::Future {
        let bind = self.bind.clone();
        let Some(user_id) = bind.user_id(&req) else {
            return ResponseFuture::reject(req, ResolveError::NoUser, bind);
        };
        match self.resolver.resolve(&user_id).try_ready() {
            Ok(Ok(workspace)) => {
                bind.bind(workspace, &mut req);
                ResponseFuture::call(self.inner.call(req), bind)
            }
            Ok(Err(error)) => ResponseFuture::reject(req, error, bind),
            Err(resolve) => {
                // The service that was polled ready is the one to call; its clone was not.
                let clone = self.inner.clone();
                let inner = mem::replace(&mut self.inner, clone);
                ResponseFuture::resolve(resolve, inner, req, bind)
            }
        }
    }
}

impl<S: fmt::Debug, B> fmt::Debug for BindWorkspace<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindWorkspace")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
