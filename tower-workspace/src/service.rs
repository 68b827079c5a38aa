use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{Bind, ResolveError, ResolveFuture, ResponseFuture, WorkspaceResolver};

/// Middleware that resolves the user's workspace and binds it to the request.
///
/// A request that names no user, or whose workspace cannot be resolved, is answered with
/// [`Bind::reject`] and does not reach the inner service. See the [crate documentation](crate).
#[derive(Clone)]
pub struct BindWorkspace<S, B> {
    inner: S,
    resolver: Arc<dyn WorkspaceResolver>,
    bind: B,
}

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
        let resolve = match self.bind.user_id(&req) {
            Some(user_id) => self.resolver.resolve(&user_id),
            None => ResolveFuture::ready(Err(ResolveError::NoUser)),
        };
        let resolve = match resolve.into_ready() {
            // The usual case: nothing is moved into the future, and the inner service not cloned.
            Ok(Ok(workspace)) => {
                self.bind.bind(workspace, &mut req);
                return ResponseFuture::calling(self.inner.call(req), self.bind.clone());
            }
            Ok(Err(error)) => ResolveFuture::ready(Err(error)),
            Err(pending) => pending,
        };
        // The service that was polled ready goes into the future, a clone that was not stays.
        let unready = self.inner.clone();
        let ready = mem::replace(&mut self.inner, unready);
        ResponseFuture::resolving(resolve, ready, self.bind.clone(), req)
    }
}

impl<S: fmt::Debug, B> fmt::Debug for BindWorkspace<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindWorkspace")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
