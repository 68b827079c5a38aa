use std::{
    mem,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{Opened, ResponseFuture, UsageMeter};

/// Meters every call to the service inside. Made by [`UsageLayer`](crate::UsageLayer).
#[derive(Clone, Debug)]
pub struct Usage<S, M> {
    inner: S,
    meter: M,
}

// === impl Usage ===

impl<S, M> Usage<S, M> {
    /// Meters the calls to `inner` with `meter`.
    pub const fn new(inner: S, meter: M) -> Self {
        Self { inner, meter }
    }

    /// The service inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the service out.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, M, Req> Service<Req> for Usage<S, M>
where
    S: Service<Req> + Clone,
    M: UsageMeter<Req, S::Response> + Clone,
{
    type Response = M::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, M, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let mut tap = match self.meter.open(&req) {
            Opened::Unmetered => {
                return ResponseFuture::called(self.inner.call(req), self.meter.clone(), None);
            }
            Opened::Metered(tap) => tap,
            Opened::Full(full) => return ResponseFuture::refused(self.meter.refuse(req, full)),
        };
        match self.meter.begin(&mut tap).now() {
            Ok(Ok(())) => {
                ResponseFuture::called(self.inner.call(req), self.meter.clone(), Some(tap))
            }
            Ok(Err(full)) => {
                self.meter.withdraw(tap);
                ResponseFuture::refused(self.meter.refuse(req, full))
            }
            Err(begun) => {
                // The one that is ready goes along, its clone takes its place.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                ResponseFuture::beginning(begun, ready, req, self.meter.clone(), tap)
            }
        }
    }
}
