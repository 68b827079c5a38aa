use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    Carry, Charge, Deny, Granted, OnStoreFailure, QuotaStore, Refusal, Reservation, ReserveError,
    StoreFuture,
};

pin_project! {
    /// The response future of [`Quota`](crate::Quota).
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
        Admit {
            admission: Admission,
            on_store_failure: OnStoreFailure,
            held: Option<(S, Req)>,
        },
        Call {
            #[pin]
            future: S::Future,
        },
    }
}

impl<S, Req, D> ResponseFuture<S, Req, D>
where
    S: Service<Req>,
{
    pub(crate) fn passing(future: S::Future, deny: D) -> Self {
        Self {
            deny,
            state: State::Call { future },
        }
    }

    pub(crate) fn admitting(
        store: Arc<dyn QuotaStore>,
        charge: Charge,
        on_store_failure: OnStoreFailure,
        inner: S,
        req: Req,
        deny: D,
    ) -> Self {
        Self {
            deny,
            state: State::Admit {
                admission: Admission {
                    store,
                    charge,
                    answer: None,
                },
                on_store_failure,
                held: Some((inner, req)),
            },
        }
    }
}

impl<S, Req, D> Future for ResponseFuture<S, Req, D>
where
    S: Service<Req>,
    D: Deny<Req, S::Response>,
    Req: Carry<Reservation>,
{
    type Output = Result<D::Response, S::Error>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    #[expect(clippy::expect_used, reason = "the contract of Future")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Admit {
                    admission,
                    on_store_failure,
                    held,
                } => {
                    let answer = ready!(admission.poll(cx));
                    let (mut inner, mut req) = held.take().expect("polled after completion");
                    let refusal = match (answer, on_store_failure) {
                        (Ok(reservation), _) => {
                            req.carry(reservation);
                            None
                        }
                        (Err(ReserveError::Denied(denied)), _) => Some(Refusal::Denied(denied)),
                        (Err(ReserveError::Unavailable(_)), OnStoreFailure::Closed) => {
                            Some(Refusal::StoreUnavailable)
                        }
                        (Err(ReserveError::Unavailable(_)), OnStoreFailure::Open) => None,
                    };
                    if let Some(refusal) = refusal {
                        return Poll::Ready(Ok(this.deny.deny(req, refusal)));
                    }
                    let future = inner.call(req);
                    this.state.set(State::Call { future });
                }
                StateProj::Call { future } => {
                    let result = ready!(future.poll(cx));
                    return Poll::Ready(result.map(|res| this.deny.pass(res)));
                }
            }
        }
    }
}

impl<S, Req, D> fmt::Debug for ResponseFuture<S, Req, D>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Asks the store at the first poll and not before, so that between its answer and the [`Reservation`] that
/// guards it there is no moment at which the future could be dropped.
struct Admission {
    store: Arc<dyn QuotaStore>,
    charge: Charge,
    answer: Option<StoreFuture<Result<Granted, ReserveError>>>,
}

impl Admission {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reservation, ReserveError>> {
        let answer = self
            .answer
            .get_or_insert_with(|| self.store.reserve(&self.charge));
        let granted = ready!(Pin::new(answer).poll(cx))?;
        Poll::Ready(Ok(Reservation::new(self.store.clone(), granted)))
    }
}
