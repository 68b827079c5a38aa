use std::{
    mem,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{CallBody, ModelCallFuture};
use crate::ResponseBody;

/// Reads the body of each call. Made by [`ModelCallLayer`](super::ModelCallLayer).
#[derive(Clone, Debug)]
pub struct ModelCallService<S> {
    inner: S,
    limit: usize,
}

// === impl ModelCallService ===

impl<S> ModelCallService<S> {
    pub(super) const fn new(inner: S, limit: usize) -> Self {
        Self { inner, limit }
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

impl<S, B, R> Service<Request<B>> for ModelCallService<S>
where
    S: Service<Request<CallBody>, Response = Response<R>> + Clone,
    B: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ModelCallFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        // The service that was polled ready is the one to call, once the body is read.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        ModelCallFuture::new(ready, req, self.limit)
    }
}
