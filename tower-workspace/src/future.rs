use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{Bind, ResolveFuture};

pin_project! {
    /// Response future of [`BindWorkspace`](crate::BindWorkspace).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, B, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, Req>
    where
        S: Service<Req>,
    {
        Resolve {
            resolve: ResolveFuture,
            held: Option<Held<S, B, Req>>,
        },
        Call {
            #[pin]
            future: S::Future,
            bind: B,
        },
    }
}

/// What waits for the workspace.
struct Held<S, B, Req> {
    inner: S,
    bind: B,
    req: Req,
}

impl<S, B, Req> ResponseFuture<S, B, Req>
where
    S: Service<Req>,
{
    pub(crate) fn calling(future: S::Future, bind: B) -> Self {
        Self {
            state: State::Call { future, bind },
        }
    }

    /// `inner` must have been polled ready.
    pub(crate) fn resolving(resolve: ResolveFuture, inner: S, bind: B, req: Req) -> Self {
        Self {
            state: State::Resolve {
                resolve,
                held: Some(Held { inner, bind, req }),
            },
        }
    }
}

impl<S, B, Req> Future for ResponseFuture<S, B, Req>
where
    S: Service<Req>,
    B: Bind<Req, S::Response>,
{
    type Output = Result<B::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let next = match this.state.as_mut().project() {
                StateProj::Resolve { resolve, held } => {
                    let resolved = ready!(Pin::new(resolve).poll(cx));
                    #[expect(clippy::expect_used, reason = "the contract of `Future::poll`")]
                    let Held {
                        mut inner,
                        bind,
                        mut req,
                    } = held.take().expect("polled after completion");
                    match resolved {
                        Ok(workspace) => {
                            bind.bind(workspace, &mut req);
                            let future = inner.call(req);
                            State::Call { future, bind }
                        }
                        Err(error) => return Poll::Ready(Ok(bind.reject(req, error))),
                    }
                }
                StateProj::Call { future, bind } => {
                    return Poll::Ready(ready!(future.poll(cx)).map(|res| bind.pass(res)));
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
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
