use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::Admission;
use crate::{Carry, Identity, Reject, RejectHttp, Rejection, VerifyFuture};

pin_project! {
    /// The response future of [`Sso`](crate::Sso).
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any time: the verification is dropped with it, or the inner service's
    /// future.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, R = RejectHttp>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req>,
        reject: R,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req>
    where
        S: Service<Req>,
    {
        Verify { verify: VerifyFuture, admission: Admission, held: Option<(S, Req)> },
        Call { #[pin] future: S::Future },
        Refuse { held: Option<(Req, Rejection)> },
    }
}

// === impl ResponseFuture ===

impl<S, Req, R> ResponseFuture<S, Req, R>
where
    S: Service<Req>,
{
    pub(super) const fn verify(
        verify: VerifyFuture,
        admission: Admission,
        ready: S,
        request: Req,
        reject: R,
    ) -> Self {
        let held = Some((ready, request));
        let state = State::Verify {
            verify,
            admission,
            held,
        };
        Self { state, reject }
    }

    pub(super) const fn call(future: S::Future, reject: R) -> Self {
        let state = State::Call { future };
        Self { state, reject }
    }

    pub(super) const fn refuse(request: Req, rejection: Rejection, reject: R) -> Self {
        let held = Some((request, rejection));
        let state = State::Refuse { held };
        Self { state, reject }
    }
}

impl<S, Req, R> Future for ResponseFuture<S, Req, R>
where
    S: Service<Req>,
    R: Reject<Req, S::Response>,
    Req: Carry<Arc<Identity>>,
{
    type Output = Result<R::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Verify {
                    verify,
                    admission,
                    held,
                } => {
                    let verdict = ready!(Pin::new(verify).poll(cx));
                    let Some((mut service, mut request)) = held.take() else {
                        return Poll::Pending;
                    };
                    match admission.admit(verdict) {
                        Ok(identity) => {
                            request.carry(identity);
                            State::Call {
                                future: service.call(request),
                            }
                        }
                        Err(rejection) => State::Refuse {
                            held: Some((request, rejection)),
                        },
                    }
                }
                StateProj::Call { future } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(this.reject.pass(response)));
                }
                StateProj::Refuse { held } => {
                    let Some((request, rejection)) = held.take() else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(Ok(this.reject.reject(request, rejection)));
                }
            };
            this.state.set(next);
        }
    }
}

impl<S, Req, R> fmt::Debug for ResponseFuture<S, Req, R>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Verify { .. } => "verify",
            State::Call { .. } => "call",
            State::Refuse { .. } => "refuse",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
