use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{Bind, ResolveError, ResolveFuture};

pin_project! {
    /// Response future of [`BindWorkspace`](crate::BindWorkspace).
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any time: the resolver's future is dropped with it, or the inner
    /// service's.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, Req>
    where
        S: Service<Req>,
    {
        bind: B,
        #[pin]
        state: State<S, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req>
    where
        S: Service<Req>,
    {
        Resolve {
            resolve: ResolveFuture,
            held: Option<(S, Req)>,
        },
        Call {
            #[pin]
            future: S::Future,
        },
        Reject {
            held: Option<(Req, ResolveError)>,
        },
    }
}

// === impl ResponseFuture ===

impl<S, B, Req> ResponseFuture<S, B, Req>
where
    S: Service<Req>,
{
    /// `inner` must have been polled ready.
    pub(crate) const fn resolve(resolve: ResolveFuture, inner: S, req: Req, bind: B) -> Self {
        let held = Some((inner, req));
        let state = State::Resolve { resolve, held };
        Self { bind, state }
    }

    pub(crate) const fn call(future: S::Future, bind: B) -> Self {
        let state = State::Call { future };
        Self { bind, state }
    }

    pub(crate) const fn reject(req: Req, error: ResolveError, bind: B) -> Self {
        let held = Some((req, error));
        let state = State::Reject { held };
        Self { bind, state }
    }
}

impl<S, B, Req> Future for ResponseFuture<S, B, Req>
where
    S: Service<Req>,
    B: Bind<Req, S::Response>,
{
    type Output = Result<B::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Resolve { resolve, held } => {
                    let resolved = ready!(Pin::new(resolve).poll(cx));
                    let Some((mut inner, mut req)) = held.take() else {
                        return Poll::Pending;
                    };
                    match resolved {
                        Ok(workspace) => {
                            this.bind.bind(workspace, &mut req);
                            State::Call {
                                future: inner.call(req),
                            }
                        }
                        Err(error) => State::Reject {
                            held: Some((req, error)),
                        },
                    }
                }
                StateProj::Call { future } => {
                    let res = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(this.bind.pass(res)));
                }
                StateProj::Reject { held } => {
                    let Some((req, error)) = held.take() else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(Ok(this.bind.reject(req, error)));
                }
            };
            this.state.set(next);
        }
    }
}

impl<S, B, Req> fmt::Debug for ResponseFuture<S, B, Req>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Resolve { .. } => "resolve",
            State::Call { .. } => "call",
            State::Reject { .. } => "reject",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
