use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{
    Carry, Deny, DenyHttp, OnStoreFailure, QuotaPolicy, QuotaStore, Reservation, ResponseFuture,
};

/// The service of [`QuotaLayer`](crate::QuotaLayer).
#[derive(Clone)]
pub struct Quota<S, P, D = DenyHttp> {
    inner: S,
    policy: P,
    store: Arc<dyn QuotaStore>,
    deny: D,
    on_store_failure: OnStoreFailure,
}

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
            store,
            deny,
            on_store_failure,
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

    fn call(&mut self, req: Req) -> Self::Future {
        let deny = self.deny.clone();
        let Some(charge) = self.policy.charge(&req) else {
            return ResponseFuture::passing(self.inner.call(req), deny);
        };
        // The service that was polled ready is the one to call; its clone was not.
        let clone = self.inner.clone();
        let inner = mem::replace(&mut self.inner, clone);
        ResponseFuture::admitting(
            self.store.clone(),
            charge,
            self.on_store_failure,
            inner,
            req,
            deny,
        )
    }
}

impl<S: fmt::Debug, P, D> fmt::Debug for Quota<S, P, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota")
            .field("inner", &self.inner)
            .field("on_store_failure", &self.on_store_failure)
            .finish_non_exhaustive()
    }
}
