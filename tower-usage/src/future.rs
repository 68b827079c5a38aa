use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{Begun, UsageMeter};

pin_project! {
    /// Response future of [`Usage`](crate::Usage).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it drops the call of the service inside and the tap, which accounts for it; dropped
    /// before the call went inward, the tap is withdrawn.
    pub struct ResponseFuture<S, M, Req>
    where
        S: Service<Req>,
        M: UsageMeter<Req, S::Response>,
    {
        #[pin]
        state: State<S, S::Future, M, M::Tap, M::Response, Req>,
    }

    impl<S, M, Req> PinnedDrop for ResponseFuture<S, M, Req>
    where
        S: Service<Req>,
        M: UsageMeter<Req, S::Response>,
    {
        fn drop(this: Pin<&mut Self>) {
            if let StateProj::Beginning { meter, tap, .. } = this.project().state.project()
                && let Some(tap) = tap.take()
            {
                meter.withdraw(tap);
            }
        }
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, M, T, R, Req> {
        Refused { response: Option<R> },
        Beginning { begun: Begun, call: Option<(S, Req)>, meter: M, tap: Option<T> },
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

    pub(crate) const fn beginning(begun: Begun, inner: S, req: Req, meter: M, tap: M::Tap) -> Self {
        Self {
            state: State::Beginning {
                begun,
                call: Some((inner, req)),
                meter,
                tap: Some(tap),
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
    M: UsageMeter<Req, S::Response> + Clone,
{
    type Output = Result<M::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                // A future must not be polled again once it was ready.
                StateProj::Refused { response } => {
                    return response
                        .take()
                        .map_or(Poll::Pending, |res| Poll::Ready(Ok(res)));
                }
                StateProj::Beginning {
                    begun,
                    call,
                    meter,
                    tap,
                } => {
                    let begun = ready!(Pin::new(begun).poll(cx));
                    let (Some((mut inner, req)), Some(tap)) = (call.take(), tap.take()) else {
                        return Poll::Pending;
                    };
                    if let Err(full) = begun {
                        meter.withdraw(tap);
                        let response = Some(meter.refuse(req, full));
                        state.set(State::Refused { response });
                        continue;
                    }
                    let meter = meter.clone();
                    let call = inner.call(req);
                    let tap = Some(tap);
                    state.set(State::Called { call, meter, tap });
                }
                StateProj::Called { call, meter, tap } => {
                    return match ready!(call.poll(cx)) {
                        Ok(response) => Poll::Ready(Ok(meter.observe(tap.take(), response))),
                        Err(error) => {
                            if let Some(tap) = tap.take() {
                                meter.fail(tap);
                            }
                            Poll::Ready(Err(error))
                        }
                    };
                }
            }
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
