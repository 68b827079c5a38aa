use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;
use tower_usage::RecordId;
use tower_usage::openai::{CallBody, ModelCall};
use tracing::warn;

use super::refusal::refusal;
use crate::config::Provider;

/// Headers of a provider's answer that an instance may see.
const PASSED: [HeaderName; 3] = [
    CONTENT_TYPE,
    RETRY_AFTER,
    HeaderName::from_static("x-request-id"),
];

/// A caller's own id of a request, which OpenAI keeps in its logs (API reference, "Debugging requests").
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// How long a provider may take to begin its answer; thinking models take minutes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Connections to providers, pooled.
pub type ProviderClient = Client<HttpsConnector<HttpConnector>, CallBody>;

/// The innermost service of egress: sends a model call on to the provider with the provider's own key, and of the
/// caller's headers none.
#[derive(Clone, Debug)]
pub struct ForwardCall {
    client: ProviderClient,
    provider: Arc<Target>,
}

#[derive(Debug)]
struct Target {
    completions: Uri,
    authorization: HeaderValue,
    models: Vec<Box<str>>,
}

// === impl ForwardCall ===

impl ForwardCall {
    /// A service for one provider.
    ///
    /// # Errors
    ///
    /// What of the provider's configuration cannot be used.
    pub fn new(provider: &Provider) -> Result<Self, String> {
        let base = provider.base_url.trim_end_matches('/');
        let completions = format!("{base}/chat/completions")
            .parse()
            .map_err(|_| "base_url is not a URL")?;
        let key = provider.api_key.as_ref().ok_or("api_key is missing")?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| "api_key holds characters that a header cannot")?;
        authorization.set_sensitive(true);
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| format!("no trusted certificates on this host: {error}"))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        let models = provider
            .models
            .iter()
            .map(|model| model.id.as_str().into())
            .collect();
        Ok(Self {
            client,
            provider: Arc::new(Target {
                completions,
                authorization,
                models,
            }),
        })
    }
}

impl Service<Request<CallBody>> for ForwardCall {
    type Response = Response<Either<Incoming, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<CallBody>) -> Self::Future {
        let call = req.extensions().get::<ModelCall>();
        let models = &self.provider.models;
        let known = call.filter(|call| models.iter().any(|model| **model == *call.requested_model));
        let id = known.map(|call| call.id);
        let (client, provider) = (self.client.clone(), Arc::clone(&self.provider));
        Box::pin(async move {
            let Some(id) = id else {
                return Ok(refusal(
                    StatusCode::NOT_FOUND,
                    "model_not_found",
                    "This model is not available.",
                ));
            };
            Ok(
                match tokio::time::timeout(HEAD_TIMEOUT, client.request(provider.outbound(req, id)))
                    .await
                {
                    Ok(Ok(response)) => inbound(response),
                    Ok(Err(error)) => {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            "provider cannot be reached"
                        );
                        refusal(
                            StatusCode::BAD_GATEWAY,
                            "provider_unreachable",
                            "The model provider cannot be reached.",
                        )
                    }
                    Err(_) => {
                        warn!("provider did not answer in time");
                        refusal(
                            StatusCode::GATEWAY_TIMEOUT,
                            "provider_timeout",
                            "The model provider did not answer.",
                        )
                    }
                },
            )
        })
    }
}

// === impl Target ===

impl Target {
    fn outbound(&self, req: Request<CallBody>, id: RecordId) -> Request<CallBody> {
        let mut outbound = Request::new(req.into_body());
        *outbound.method_mut() = Method::POST;
        *outbound.uri_mut() = self.completions.clone();
        let headers = outbound.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        // The record's own id, by which it can be found in the provider's log. A UUID always is a header's value.
        if let Ok(id) = HeaderValue::try_from(id.to_string()) {
            headers.insert(CLIENT_REQUEST_ID, id);
        }
        // A compressed answer could not be metered as it goes by.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        outbound
    }
}

fn inbound(response: Response<Incoming>) -> Response<Either<Incoming, Full<Bytes>>> {
    let status = response.status();
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        // It is our key that was refused, not the instance's; passed on, the instance would give up its own.
        warn!(%status, "provider refused the key");
        let message = "The model provider refused the gateway. Tell your administrator.";
        return refusal(StatusCode::BAD_GATEWAY, "provider_refused", message);
    }
    let (head, body) = response.into_parts();
    let mut headers = HeaderMap::new();
    for name in PASSED {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let mut response = Response::new(Either::Left(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
