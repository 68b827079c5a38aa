use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_service::Service;

use super::refusal::refusal;
use super::target::Target;
use crate::config::ProviderKind;
use crate::telemetry::{Latency, begin_request, context};

/// The routes of the egress listener: `/<provider>/v1/…` for the model calls of that provider's API, and nothing else.
#[derive(Clone, Debug)]
pub struct Egress<S> {
    targets: Arc<[Arc<Target>]>,
    openai: S,
    anthropic: S,
    latency: Latency,
}

/// Where a model call goes; in the extensions of its request.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Whose API it is.
    pub target: Arc<Target>,
    /// The path below its base URL.
    pub path: &'static str,
    /// What instances ask for, whoever the provider is.
    pub route: &'static str,
}

/// The model calls of an API: what instances call them, and where they lie below the provider's base URL. Clients of
/// OpenAI's API have the version in their base URL, those of Anthropic's in the path.
const fn calls(kind: ProviderKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        ProviderKind::Openai => &[
            ("/{provider}/v1/chat/completions", "/chat/completions"),
            ("/{provider}/v1/responses", "/responses"),
            ("/{provider}/v1/embeddings", "/embeddings"),
        ],
        ProviderKind::Anthropic => &[("/{provider}/v1/messages", "/v1/messages")],
    }
}

/// How the routes of calls begin.
const PROVIDER: &str = "/{provider}/";

// === impl Egress ===

impl<S> Egress<S> {
    /// Serves the calls of these providers: those of OpenAI's API with `openai`, those of Anthropic's with `anthropic`.
    #[must_use]
    pub fn new(targets: Arc<[Arc<Target>]>, openai: S, anthropic: S) -> Self {
        Self {
            targets,
            openai,
            anthropic,
            latency: Latency::new("egress"),
        }
    }

    /// Where a request goes, if anywhere.
    fn find(&self, method: &Method, path: &str) -> Option<Destination> {
        let (provider, call) = path.strip_prefix('/')?.split_once('/')?;
        let target = self
            .targets
            .iter()
            .find(|target| *target.name == *provider)?;
        let mut calls = calls(target.kind).iter();
        let (route, path) = calls.find(|(route, _)| route.strip_prefix(PROVIDER) == Some(call))?;
        (method == Method::POST).then(|| Destination {
            target: Arc::clone(target),
            path,
            route,
        })
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

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        let (begun, latency) = (Instant::now(), self.latency.clone());
        let span = begin_request(req.headers());
        let Some(destination) = self.find(req.method(), req.uri().path()) else {
            latency.answered(span, None, req.method(), StatusCode::NOT_FOUND, begun);
            return Box::pin(std::future::ready(Ok(refusal(
                ProviderKind::Openai,
                StatusCode::NOT_FOUND,
                "not_found",
                "Only POST /<provider>/v1/… is served here, with a provider of the configuration and a call of its API.",
            ))));
        };
        let (kind, route) = (destination.target.kind, destination.route);
        let model_calls = match kind {
            ProviderKind::Openai => self.openai.clone(),
            ProviderKind::Anthropic => self.anthropic.clone(),
        };
        req.extensions_mut().insert(destination);
        // On a task of its own: an instance that hangs up while the provider thinks does not take the call back from the
        // provider, so it is followed to its end and metered.
        let call = context::within(context::current(), model_calls.oneshot(req));
        let call = tokio::spawn(call);
        Box::pin(async move {
            let response = match call.await {
                Ok(Ok(response)) => response.map(Either::Left),
                Ok(Err(never)) => match never {},
                Err(_) => refusal(
                    kind,
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal_error",
                    "The call failed.",
                ),
            };
            latency.answered(span, Some(route), &Method::POST, response.status(), begun);
            Ok(response)
        })
    }
}
