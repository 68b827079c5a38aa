use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::UsageMeter;

pin_project! {
    /// Response future of [`Usage`](crate::Usage).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it drops the call of the service inside and the tap, which accounts for it.
    pub struct ResponseFuture<S, M, Req>
    where
        S: Service<Req>,
        M: UsageMeter<Req, S::Response>,
    {
        #[pin]
        state: State<S::Future, M, M::Tap, M::Response>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, M, T, R> {
        Refused { response: Option<R> },
        Called { #[pin] call: F, meter: M, tap: Option<T> },
    }
}

// === impl ResponseFuture ===

impl<S, M, Req> ResponseFuture<S, M, Req>
where
    S: Service<Req>,
    M: UsageMeter<Req, S::Response>,
{
    pub(crate) const fn refused(response: M::Response) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }

    pub(crate) const fn called(call: S::Future, meter: M, tap: Option<M::Tap>) -> Self {
        Self {
            state: State::Called { call, meter, tap },
        }
    }
}

impl<S, M, Req> Future for ResponseFuture<S, M, Req>
where
    S: Service<Req>,
    M: UsageMeter<Req, S::Response>,
{
    type Output = Result<M::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            // A future must not be polled again once it was ready.
            StateProj::Refused { response } => response
                .take()
                .map_or(Poll::Pending, |res| Poll::Ready(Ok(res))),
            StateProj::Called { call, meter, tap } => match ready!(call.poll(cx)) {
                Ok(response) => Poll::Ready(Ok(meter.observe(tap.take(), response))),
                Err(error) => {
                    if let Some(tap) = tap.take() {
                        meter.fail(tap);
                    }
                    Poll::Ready(Err(error))
                }
            },
        }
    }
}

impl<S, M, Req> fmt::Debug for ResponseFuture<S, M, Req>
where
    S: Service<Req>,
    M: UsageMeter<Req, S::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
