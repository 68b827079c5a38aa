use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;
use tower_sso::Identity;
use tower_usage::llm::{CallBody, ModelCall, Refused};
use tower_usage::{Prices, RecordId, TokenCounts};
use tower_workspace::vault::SecretBytes;
use tracing::warn;

use super::own_keys::OwnKeys;
use super::refusal::refusal;
use super::route::Destination;
use crate::clock;
use crate::config::ProviderKind;
use crate::telemetry::context;
use crate::telemetry::trace::{Role, Span};

/// Headers of a provider's answer that an instance may see.
const PASSED: [HeaderName; 5] = [
    CONTENT_ENCODING,
    CONTENT_TYPE,
    RETRY_AFTER,
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-request-id"),
];

/// Headers of a call by which Anthropic's clients say how they want to be understood (API reference, "Versions", "Beta
/// headers"); the version is required.
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// A caller's own id of a request, which OpenAI keeps in its logs (API reference, "Debugging requests").
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// By which a provider that knows it answers a repeated request by the answer it gave before
/// (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long a provider may take to begin its answer; thinking models take minutes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(600);

/// How providers say that a key has no credit (OpenAI's API reference, "Error codes"; Anthropic's answer to a call without).
const NO_CREDIT: [&str; 2] = ["insufficient_quota", "credit balance is too low"];

/// Longest answer of a provider that refuses, in bytes, and how long it may take.
const MAX_ERROR: usize = 256 << 10;
const ERROR_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections to providers, pooled.
pub type ProviderClient = Client<HttpsConnector<HttpConnector>, CallBody>;

/// The innermost service of egress: sends a model call on to its [`Destination`] with the provider's own key, and of the
/// caller's headers none but those that say what it means.
#[derive(Clone, Debug)]
pub struct ForwardCall {
    client: ProviderClient,
    own_keys: OwnKeys,
    refuse_unpriced: Option<Prices>,
}

// === impl ForwardCall ===

impl ForwardCall {
    /// A service for all providers; whoever has a key of their own among `own_keys` uses that.
    ///
    /// # Errors
    ///
    /// This host has no certificates that it trusts.
    pub fn new(own_keys: OwnKeys) -> io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_all_versions()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            client,
            own_keys,
            refuse_unpriced: None,
        })
    }

    /// Refuses calls for a model that has no price among these now.
    #[must_use]
    pub fn refusing_unpriced(self, prices: Prices) -> Self {
        Self {
            refuse_unpriced: Some(prices),
            ..self
        }
    }

    fn is_refused(&self, model: &str) -> bool {
        let prices = self.refuse_unpriced.as_ref();
        prices.is_some_and(|prices| {
            let counts = TokenCounts::default();
            prices.load().price(model, &counts, clock::now()).is_none()
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
        let this = self.clone();
        Box::pin(async move {
            let Some(Destination { target, path, .. }) =
                req.extensions().get::<Destination>().cloned()
            else {
                let message = "This call leads to no provider.";
                let status = StatusCode::NOT_FOUND;
                return Ok(refusal(ProviderKind::Openai, status, "not_found", message));
            };
            let kind = target.kind;
            let call = req.extensions().get::<ModelCall>();
            let offered = call.filter(|call| {
                target.offers(&call.requested_model) && !this.is_refused(&call.requested_model)
            });
            let (Some(id), Some(uri)) = (offered.map(|call| call.id), target.uri(path)) else {
                let message = "This model is not available.";
                return Ok(refusal(
                    kind,
                    StatusCode::NOT_FOUND,
                    "model_not_found",
                    message,
                ));
            };
            let owner: Option<&Arc<Identity>> = req.extensions().get();
            let mut span = Span::begin("model call", Role::Client, context::trace());
            span.text("gen_ai.provider.name", || target.name.to_string());
            span.text("http.route", || path);
            // It is offered, and so it is a name of the configuration.
            if let Some(call) = call {
                span.text("gen_ai.request.model", || call.requested_model.to_string());
            }
            let repeatable = call
                .zip(owner)
                .and_then(|(call, owner)| repeatable(call, owner.user_id()));
            let own = owner.map(|owner| this.own_keys.find(owner.user_id(), &target.name));
            let own = match own.transpose() {
                Ok(own) => own.flatten(),
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        provider = &*target.name,
                        "somebody's own key cannot be used"
                    );
                    let message = "Your own key for this model provider cannot be used here. Tell your administrator.";
                    let status = StatusCode::BAD_GATEWAY;
                    return Ok(refusal(kind, status, "own_key_unusable", message));
                }
            };
            let mut outbound = outbound(req, kind, id);
            *outbound.uri_mut() = uri;
            if let Some(key) = repeatable {
                outbound.headers_mut().insert(IDEMPOTENCY_KEY, key);
            }
            if !target.authorize(
                outbound.headers_mut(),
                own.as_ref().map(SecretBytes::expose),
            ) {
                let message = "Your own key for this model provider is none.";
                let status = StatusCode::BAD_GATEWAY;
                return Ok(refusal(kind, status, "own_key_unusable", message));
            }
            if let Some(trace) = span.context() {
                trace.put(outbound.headers_mut());
            }
            let is_own = own.is_some();
            drop(own);
            let answer =
                match tokio::time::timeout(HEAD_TIMEOUT, this.client.request(outbound)).await {
                    Ok(Ok(response)) => inbound(response, kind, is_own).await,
                    Ok(Err(error)) => {
                        warn!(
                            error = &error as &dyn std::error::Error,
                            provider = &*target.name,
                            "provider cannot be reached"
                        );
                        refusal(
                            kind,
                            StatusCode::BAD_GATEWAY,
                            "provider_unreachable",
                            "The model provider cannot be reached.",
                        )
                    }
                    Err(_) => {
                        warn!(provider = &*target.name, "provider did not answer in time");
                        refusal(
                            kind,
                            StatusCode::GATEWAY_TIMEOUT,
                            "provider_timeout",
                            "The model provider did not answer.",
                        )
                    }
                };
            span.number(
                "http.response.status_code",
                i64::from(answer.status().as_u16()),
            );
            if answer.status().is_server_error() {
                span.fail("the provider failed");
            }
            Ok(answer)
        })
    }
}

/// The name of a call that is the same for whoever repeats it, and for nobody else: the provider knows all people by one
/// key, and what one was answered is not for another.
fn repeatable(call: &ModelCall, user_id: &str) -> Option<HeaderValue> {
    let call = call.idempotency_key.as_deref()?;
    // The first part is of one length.
    let named = [call.as_bytes(), user_id.as_bytes()].concat();
    let hash = digest(&SHA256, &named);
    HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(hash)).ok()
}

/// The call as the provider gets it, but for the address and the key.
fn outbound(req: Request<CallBody>, kind: ProviderKind, id: RecordId) -> Request<CallBody> {
    let (head, body) = req.into_parts();
    let mut outbound = Request::new(body);
    *outbound.method_mut() = Method::POST;
    let headers = outbound.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("application/json, text/event-stream"),
    );
    // A compressed answer costs more to meter as it goes by.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    match kind {
        // The record's own id, by which it can be found in the provider's log. A UUID always is a header's value.
        ProviderKind::Openai => {
            if let Ok(id) = HeaderValue::try_from(id.to_string()) {
                headers.insert(CLIENT_REQUEST_ID, id);
            }
        }
        ProviderKind::Anthropic => {
            for name in [ANTHROPIC_VERSION, ANTHROPIC_BETA] {
                for value in head.headers.get_all(&name) {
                    headers.append(&name, value.clone());
                }
            }
        }
    }
    outbound
}

async fn inbound(
    response: Response<Incoming>,
    kind: ProviderKind,
    is_own: bool,
) -> Response<Either<Incoming, Full<Bytes>>> {
    let (head, body) = response.into_parts();
    let status = head.status;
    let instead = |code, message, body: &[u8]| {
        let mut response = refusal(kind, StatusCode::BAD_GATEWAY, code, message);
        // The record says what the provider did.
        let refused = Refused::new(status, body);
        response.extensions_mut().insert(refused);
        response
    };
    let refused = |body: &[u8]| {
        // It is our key that was refused, or has no credit, and not the instance's; passed on, the instance would give up
        // its own.
        warn!(%status, is_own, "provider refused the key");
        let message = match is_own {
            true => {
                "The model provider refused the key of your own. Put another in its place, or take it away."
            }
            false => "The model provider refused the gateway. Tell your administrator.",
        };
        instead("provider_refused", message, body)
    };
    let body = match status {
        StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED | StatusCode::FORBIDDEN => {
            // Without it only the name of the error lacks.
            return refused(&read_error(body).await.unwrap_or_default());
        }
        // Where a provider says that there is no credit left, in words of its own.
        StatusCode::BAD_REQUEST | StatusCode::TOO_MANY_REQUESTS => {
            let Some(read) = read_error(body).await else {
                let message = "The model provider's answer broke off.";
                return instead("provider_failed", message, &[]);
            };
            if NO_CREDIT.iter().any(|words| holds(&read, words)) {
                return refused(&read);
            }
            Either::Right(Full::from(read))
        }
        _ => Either::Left(body),
    };
    let mut headers = HeaderMap::new();
    for name in PASSED {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What a provider says that refuses, if it is not too long and does not break off.
async fn read_error(body: Incoming) -> Option<Bytes> {
    let read = Limited::new(body, MAX_ERROR).collect();
    let read = tokio::time::timeout(ERROR_TIMEOUT, read).await.ok()?;
    Some(read.ok()?.to_bytes())
}

/// Whether these words are in an answer.
fn holds(answer: &[u8], words: &str) -> bool {
    answer
        .windows(words.len())
        .any(|part| part.eq_ignore_ascii_case(words.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tower::{Layer, ServiceExt, service_fn};
    use tower_usage::llm::ModelCallLayer;

    use super::*;

    async fn read(key: Option<&str>, body: &'static str) -> ModelCall {
        let mut request = Request::post("/v1/messages")
            .body(Full::from(body))
            .unwrap();
        if let Some(key) = key {
            let key = HeaderValue::from_str(key).unwrap();
            request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        }
        let (found, call) = tokio::sync::oneshot::channel();
        let found = Arc::new(std::sync::Mutex::new(Some(found)));
        let take = service_fn(move |req: Request<CallBody>| {
            let call = req.extensions().get::<ModelCall>().unwrap().clone();
            let _ = found.lock().unwrap().take().unwrap().send(call);
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        });
        ModelCallLayer::new()
            .layer(take)
            .oneshot(request)
            .await
            .unwrap();
        call.await.unwrap()
    }

    #[tokio::test]
    async fn d5_53_a_repeated_request_has_one_name_at_its_provider_and_no_other_has_it() {
        let body = r#"{"model":"m","messages":[]}"#;
        let call = read(Some("k"), body).await;
        let own = repeatable(&call, "alice").unwrap();
        assert_eq!(own.len(), 43);
        assert_eq!(
            repeatable(&read(Some("k"), body).await, "alice").unwrap(),
            own
        );
        assert_ne!(
            repeatable(&call, "bob").unwrap(),
            own,
            "not what another was answered"
        );
        let other = read(Some("k"), r#"{"model":"m","messages":[1]}"#).await;
        assert_ne!(repeatable(&other, "alice").unwrap(), own);
        assert_eq!(repeatable(&read(None, body).await, "alice"), None);
    }
}
