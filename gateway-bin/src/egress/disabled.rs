use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{self, FutureExt, TryFutureExt};
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use tower::Layer;
use tower_service::Service;
use tower_sso::Identity;

use super::refusal::refusal;
use crate::config::ProviderKind;

/// Says whether a user is disabled.
pub type IsDisabled = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Refuses model calls of agents whose user is disabled: what ran for them when they were, and what runs by itself.
#[derive(Clone)]
pub struct RefuseDisabled {
    kind: ProviderKind,
    is_disabled: IsDisabled,
}

/// See [`RefuseDisabled`].
#[derive(Clone)]
pub struct RefusesDisabled<S> {
    kind: ProviderKind,
    is_disabled: IsDisabled,
    inner: S,
}

/// The answer of the service inside, or a refusal.
type Answer<F, R, E> = future::Either<
    future::MapOk<F, fn(Response<R>) -> Response<E>>,
    future::Ready<Result<Response<E>, Infallible>>,
>;

// === impl RefuseDisabled ===

impl RefuseDisabled {
    /// A layer that asks this, and refuses in the form of such a provider.
    #[must_use]
    pub const fn new(kind: ProviderKind, is_disabled: IsDisabled) -> Self {
        Self { kind, is_disabled }
    }
}

impl<S> Layer<S> for RefuseDisabled {
    type Service = RefusesDisabled<S>;

    fn layer(&self, inner: S) -> RefusesDisabled<S> {
        RefusesDisabled {
            kind: self.kind,
            is_disabled: Arc::clone(&self.is_disabled),
            inner,
        }
    }
}

impl fmt::Debug for RefuseDisabled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefuseDisabled").finish_non_exhaustive()
    }
}

// === impl RefusesDisabled ===

impl<S, B, R> Service<Request<B>> for RefusesDisabled<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Future<Output = Result<Response<R>, Infallible>>,
{
    type Response = Response<Either<R, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Answer<S::Future, R, Either<R, Full<Bytes>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let owner = req.extensions().get::<Arc<Identity>>();
        if !owner.is_some_and(|owner| (self.is_disabled)(owner.user_id())) {
            let answer = self.inner.call(req);
            return answer
                .map_ok((|response: Response<R>| response.map(Either::Left)) as fn(_) -> _)
                .left_future();
        }
        metrics::counter!("gateway_refusals_total", "plane" => "egress", "reason" => "disabled")
            .increment(1);
        // As a quota refuses: any other status disables the provider for others, or reads as a full context.
        let mut refused = refusal(
            self.kind,
            StatusCode::TOO_MANY_REQUESTS,
            "user_disabled",
            "This account is disabled. Ask your administrator.",
        );
        let hour = HeaderValue::from_static("3600");
        refused.headers_mut().insert(RETRY_AFTER, hour);
        future::ok(refused).right_future()
    }
}

impl<S: fmt::Debug> fmt::Debug for RefusesDisabled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusesDisabled")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
