use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use tower::ServiceExt;
use tower_service::Service;

use super::refusal::refusal;

/// The routes of the egress listener: model calls, and nothing else.
#[derive(Clone, Debug)]
pub struct Egress<S> {
    model_calls: S,
}

// === impl Egress ===

impl<S> Egress<S> {
    /// Serves model calls with `model_calls`.
    pub fn new(model_calls: S) -> Self {
        Self { model_calls }
    }
}

impl<S, B, R> Service<Request<B>> for Egress<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Send + 'static,
    R: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    type Response = Response<Either<R, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        match (req.method(), req.uri().path()) {
            (&Method::POST, "/v1/chat/completions") => {
                // On a task of its own: an instance that hangs up while the provider thinks does not take the call back
                // from the provider, so it is followed to its end and metered.
                let call = tokio::spawn(self.model_calls.clone().oneshot(req));
                Box::pin(async move {
                    Ok(match call.await {
                        Ok(Ok(response)) => response.map(Either::Left),
                        Ok(Err(never)) => match never {},
                        Err(_) => refusal(
                            StatusCode::INTERNAL_SERVER_ERROR,
                            "internal_error",
                            "The call failed.",
                        ),
                    })
                })
            }
            _ => Box::pin(std::future::ready(Ok(refusal(
                StatusCode::NOT_FOUND,
                "not_found",
                "Only POST /v1/chat/completions is served here.",
            )))),
        }
    }
}
