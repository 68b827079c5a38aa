use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    Carry, Deny, Granted, Refusal, Reservation, ReserveError, StoreError, StoreFuture,
    admission::Admission,
};

pin_project! {
    /// The response future of [`Quota`](crate::Quota).
    ///
    /// # Cancel safety
    ///
    /// It may be dropped at any time, also before its first poll: what is held for the request is then given back,
    /// unless somebody inside has settled it or taken it over. What a store sets aside after it was no longer asked
    /// is given back by the lease.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, D>
    where
        S: Service<Req>,
    {
        deny: D,
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
        Reserve {
            reserve: StoreFuture<Result<Granted, ReserveError>>,
            admission: Admission,
            held: Option<(S, Req)>,
        },
        Call {
            #[pin]
            future: S::Future,
            unmetered: Option<StoreError>,
        },
        Deny {
            held: Option<(Req, Refusal)>,
        },
    }
}

// === impl ResponseFuture ===

impl<S, Req, D> ResponseFuture<S, Req, D>
where
    S: Service<Req>,
{
    /// `inner` must have been polled ready.
    pub(crate) const fn reserve(
        reserve: StoreFuture<Result<Granted, ReserveError>>,
        admission: Admission,
        inner: S,
        req: Req,
        deny: D,
    ) -> Self {
        let held = Some((inner, req));
        let state = State::Reserve {
            reserve,
            admission,
            held,
        };
        Self { deny, state }
    }

    /// With an error of the store if it could not answer and the request passes all the same.
    pub(crate) const fn call(future: S::Future, unmetered: Option<StoreError>, deny: D) -> Self {
        let state = State::Call { future, unmetered };
        Self { deny, state }
    }

    pub(crate) const fn deny(req: Req, refusal: Refusal, deny: D) -> Self {
        let held = Some((req, refusal));
        let state = State::Deny { held };
        Self { deny, state }
    }
}

impl<S, Req, D> Future for ResponseFuture<S, Req, D>
where
    S: Service<Req>,
    D: Deny<Req, S::Response>,
    Req: Carry<Reservation>,
{
    type Output = Result<D::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Reserve {
                    reserve,
                    admission,
                    held,
                } => {
                    let answer = ready!(Pin::new(reserve).poll(cx));
                    // Before anything else: from here on a drop gives back.
                    let admitted = admission.admit(answer);
                    let Some((mut inner, mut req)) = held.take() else {
                        return Poll::Pending;
                    };
                    match admitted {
                        Ok(admitted) => {
                            let unmetered = admitted.carry_into(&mut req);
                            let future = inner.call(req);
                            State::Call { future, unmetered }
                        }
                        Err(refusal) => State::Deny {
                            held: Some((req, refusal)),
                        },
                    }
                }
                StateProj::Call { future, unmetered } => {
                    let res = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(match unmetered.take() {
                        None => this.deny.pass(res),
                        Some(error) => this.deny.pass_unmetered(res, error),
                    }));
                }
                StateProj::Deny { held } => {
                    let Some((req, refusal)) = held.take() else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(Ok(this.deny.deny(req, refusal)));
                }
            };
            this.state.set(next);
        }
    }
}

impl<S, Req, D> fmt::Debug for ResponseFuture<S, Req, D>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Reserve { .. } => "reserve",
            State::Call { .. } => "call",
            State::Deny { .. } => "deny",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
