use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{
    BearerHeader, Carry, Identity, Reason, Reject, RejectHttp, Rejection, ResponseFuture, SsoLayer,
    TokenSource, token::MAX_LENGTH,
};

/// Lets only requests with a verified token through. Made by [`SsoLayer`].
///
/// If the verdict is there at once, the inner service is called at once too and never cloned.
///
/// # Cancel safety
///
/// Dropping a [`ResponseFuture`] drops the verification of its token, which changes nothing.
#[derive(Clone, Debug)]
pub struct Sso<S, T = BearerHeader, R = RejectHttp> {
    inner: S,
    layer: SsoLayer<T, R>,
}

// === impl Sso ===

impl<S, T, R> Sso<S, T, R> {
    pub(super) const fn new(inner: S, layer: SsoLayer<T, R>) -> Self {
        Self { inner, layer }
    }

    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, mutable.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service, unwrapped.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, T, R, Req> Service<Req> for Sso<S, T, R>
where
    S: Service<Req> + Clone,
    T: TokenSource<Req>,
    R: Reject<Req, S::Response> + Clone,
    Req: Carry<Arc<Identity>>,
{
    type Response = R::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Req) -> Self::Future {
        let SsoLayer {
            source,
            reject,
            admission,
            ..
        } = &self.layer;
        let reject = reject.clone();

        let verdict = match source.token(&request) {
            // Whoever verifies: nobody is made to work through more.
            Ok(Some(token)) if token.len() > MAX_LENGTH => {
                let rejection = Rejection::InvalidToken(Reason::TooLong);
                return ResponseFuture::refuse(request, rejection, reject);
            }
            Ok(Some(token)) => {
                let address = source.address(&request);
                self.layer.verifier().verify_from(token, address)
            }
            Ok(None) => {
                return match admission.admit_anonymous() {
                    Ok(()) => ResponseFuture::call(self.inner.call(request), reject),
                    Err(rejection) => ResponseFuture::refuse(request, rejection, reject),
                };
            }
            Err(error) => return ResponseFuture::refuse(request, error.into(), reject),
        };

        // Most verdicts are there already: then nothing has to be kept for later.
        match verdict.try_ready() {
            Ok(verdict) => match admission.admit(verdict) {
                Ok(identity) => {
                    request.carry(identity);
                    ResponseFuture::call(self.inner.call(request), reject)
                }
                Err(rejection) => ResponseFuture::refuse(request, rejection, reject),
            },
            Err(verify) => {
                let admission = admission.clone();
                // The one that was polled ready must be the one that is called.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                ResponseFuture::verify(verify, admission, ready, request, reject)
            }
        }
    }
}
