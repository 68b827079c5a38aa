use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{
    Carry, Deny, DenyHttp, OnStoreFailure, QuotaPolicy, QuotaStore, Reservation, ResponseFuture,
    admission::Admission,
};

/// The service of [`QuotaLayer`](crate::QuotaLayer).
///
/// It asks the store when it is called. If the answer is there at once, as that of a store in memory is, the inner
/// service is called at once too and never cloned.
///
/// # Cancel safety
///
/// What is held for a request is given back when its [`ResponseFuture`] is dropped, polled or not.
#[derive(Clone)]
pub struct Quota<S, P, D = DenyHttp> {
    inner: S,
    policy: P,
    admission: Admission,
    deny: D,
}

// === impl Quota ===

impl<S, P, D> Quota<S, P, D> {
    pub(crate) const fn new(
        inner: S,
        policy: P,
        store: Arc<dyn QuotaStore>,
        deny: D,
        on_store_failure: OnStoreFailure,
    ) -> Self {
        Self {
            inner,
            policy,
            admission: Admission {
                store,
                on_store_failure,
            },
            deny,
        }
    }

    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, mutably.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service, alone.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, P, D, Req> Service<Req> for Quota<S, P, D>
where
    S: Service<Req> + Clone,
    P: QuotaPolicy<Req>,
    D: Deny<Req, S::Response> + Clone,
    Req: Carry<Reservation>,
{
    type Response = D::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, D>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Req) -> Self::Future {
        let deny = self.deny.clone();
        let Some(charge) = self.policy.charge(&req) else {
            return ResponseFuture::call(self.inner.call(req), None, deny);
        };
        match self.admission.store.reserve(&charge).try_ready() {
            Ok(answer) => match self.admission.admit(answer) {
                Ok(admitted) => {
                    let unmetered = admitted.carry_into(&mut req);
                    ResponseFuture::call(self.inner.call(req), unmetered, deny)
                }
                Err(refusal) => ResponseFuture::deny(req, refusal, deny),
            },
            Err(reserve) => {
                let admission = self.admission.clone();
                // The service that was polled ready is the one to call; its clone was not.
                let clone = self.inner.clone();
                let inner = mem::replace(&mut self.inner, clone);
                ResponseFuture::reserve(reserve, admission, inner, req, deny)
            }
        }
    }
}

impl<S: fmt::Debug, P, D> fmt::Debug for Quota<S, P, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota")
            .field("inner", &self.inner)
            .field("on_store_failure", &self.admission.on_store_failure)
            .finish_non_exhaustive()
    }
}
