use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, REFERRER_POLICY, USER_AGENT, VARY,
    X_FRAME_OPTIONS,
};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;
use tokio::time::timeout;
use tower_http::timeout::TimeoutBody;

use crate::instance::Dialer;

/// Gets the files of an instance's page.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Where browsers are: the instance allows its page to talk to the host that it was asked for at.
    host: Option<HeaderValue>,
    client: Client<HttpConnector, Empty<Bytes>>,
}

/// The instance does not give a file.
#[derive(Debug, Error)]
#[error("the instance does not give its page")]
pub(super) struct Missing(#[source] Option<Box<dyn std::error::Error + Send + Sync>>);

/// How long the instance may take to begin an answer, and then to go on with it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(30);

/// Most bytes of a file that is read here: the page's configuration has some hundreds.
const MAX_READ: usize = 1 << 20;

/// What of a client's request the instance is told: nothing that names anybody, neither by cookie nor by header.
const ASKED: [HeaderName; 6] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    USER_AGENT,
];

/// What of the instance's answer a client is told: no cookie, nothing that a proxy before us would obey.
const TOLD: [HeaderName; 9] = [
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_SECURITY_POLICY,
    CONTENT_TYPE,
    ETAG,
    LAST_MODIFIED,
    HeaderName::from_static("permissions-policy"),
    REFERRER_POLICY,
    VARY,
];

// === impl Pages ===

impl Pages {
    /// Gets files for browsers that are at `public_url`.
    #[must_use]
    pub fn new(public_url: &str) -> Self {
        let public_url: Option<Uri> = public_url.parse().ok();
        let host = public_url.and_then(|url| HeaderValue::from_str(url.authority()?.as_str()).ok());
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build_http();
        Self { host, client }
    }

    /// The file at a path that the caller has found to be plain, for a client with these headers.
    pub(super) async fn get(
        &self,
        dialer: &Dialer,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Missing> {
        let asked = ASKED.into_iter().filter_map(|name| {
            let value = headers.get(&name)?.clone();
            Some((name, value))
        });
        self.send(dialer, path, asked.collect(), None).await
    }

    /// The text at a path, in the name of a user of the instance.
    pub(super) async fn read(
        &self,
        dialer: &Dialer,
        path: &str,
        user: &str,
    ) -> Result<Bytes, Missing> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self.send(dialer, path, headers, Some(user)).await?;
        if !answer.status().is_success() {
            return Err(Missing(None));
        }
        let body = Limited::new(answer.into_body(), MAX_READ).collect();
        match timeout(TIMEOUT, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(Missing(Some(error))),
            Err(elapsed) => Err(Missing(Some(elapsed.into()))),
        }
    }

    async fn send(
        &self,
        dialer: &Dialer,
        path: &str,
        mut headers: HeaderMap,
        user: Option<&str>,
    ) -> Result<Response<Body>, Missing> {
        let missing = |error: Box<dyn std::error::Error + Send + Sync>| Missing(Some(error));
        let uri: Uri = format!("http://{}{path}", dialer.address())
            .parse()
            .map_err(|error: http::uri::InvalidUri| missing(error.into()))?;
        let ours = dialer.headers(user, None::<IpAddr>);
        headers.extend(ours.map_err(|error| missing(error.into()))?);
        headers.extend(self.host.clone().map(|host| (HOST, host)));
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let answer = timeout(TIMEOUT, self.client.request(request)).await;
        let answer = answer
            .map_err(|elapsed| missing(elapsed.into()))?
            .map_err(|error| missing(error.into()))?;
        let (parts, body) = answer.into_parts();
        let body = TimeoutBody::new(TIMEOUT, body);
        let mut told = Response::new(Body::new(Box::pin(body)));
        *told.status_mut() = parts.status;
        for name in TOLD {
            for value in parts.headers.get_all(&name) {
                told.headers_mut().append(&name, value.clone());
            }
        }
        // Also where the instance's own policy would let somebody frame it.
        let deny = HeaderValue::from_static("DENY");
        told.headers_mut().insert(X_FRAME_OPTIONS, deny);
        Ok(told)
    }
}
