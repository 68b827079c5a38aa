use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, InvalidHeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::json;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::Signer;
use super::retry::retry_after;
use crate::api::{rfc3339, shown_alert};
use crate::clock;
use crate::store::Alert;

/// How long one attempt may take in all.
pub(super) const ATTEMPT: Duration = Duration::from_secs(10);

/// How much of an answer's body is read, so that its connection can be used again. What it says is of no interest.
const MAX_BODY: usize = 4 << 10;

/// What `User-Agent` says.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("openclaw-gateway/", env!("CARGO_PKG_VERSION")));

/// The URL of a webhook, which may hold a token, and what signs what is sent there.
#[derive(Clone)]
pub struct Target {
    url: Uri,
    signer: Signer,
}

/// The other end of a webhook, over one connection at a time.
#[derive(Debug)]
pub(super) struct Receiver {
    target: Target,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// How long one attempt may take in all.
    pub(super) attempt: Duration,
}

/// Why an alert was not taken; it tells nothing of the URL.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The receiver wants no more.
    #[error("the receiver says that it is gone")]
    Gone,
    /// The receiver did not take it.
    #[error("the receiver answered {status}")]
    Refused {
        /// What it answered.
        status: StatusCode,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// There was no answer in time.
    #[error("the receiver did not answer in time")]
    Late,
    /// There is no connection.
    #[error("the receiver cannot be reached: {0}")]
    Unreachable(io::ErrorKind),
    /// There is no TLS with the receiver.
    #[error("the receiver speaks no TLS, or its certificate is not trusted")]
    Untrusted,
    /// The connection ended before the answer.
    #[error("the connection broke: {0}")]
    Broken(io::ErrorKind),
    /// What is to be sent is not the value of a header.
    #[error("the alert cannot be sent")]
    Unsendable(#[from] InvalidHeaderValue),
}

// === impl Target ===

impl Target {
    /// What is sent to `url`, signed by `signer`.
    #[must_use]
    pub fn new(url: Uri, signer: Signer) -> Self {
        Self { url, signer }
    }

    fn request(&self, alert: &Alert) -> Result<Request<Full<Bytes>>, InvalidHeaderValue> {
        let body = json!({
            "type": "quota.alert",
            "timestamp": rfc3339(alert.triggered_at),
            "data": shown_alert(alert),
        });
        let body = body.to_string();
        let since = clock::now().duration_since(UNIX_EPOCH);
        let timestamp = since.unwrap_or_default().as_secs();
        let signature = self.signer.sign(&alert.id, timestamp, body.as_bytes());
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (USER_AGENT, AGENT),
            (
                HeaderName::from_static("webhook-id"),
                HeaderValue::from_str(&alert.id)?,
            ),
            (
                HeaderName::from_static("webhook-timestamp"),
                HeaderValue::from(timestamp),
            ),
            (
                HeaderName::from_static("webhook-signature"),
                HeaderValue::from_str(&signature)?,
            ),
        ];
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        request.headers_mut().extend(headers);
        Ok(request)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").finish_non_exhaustive()
    }
}

// === impl Receiver ===

impl Receiver {
    /// A receiver at this target.
    ///
    /// # Errors
    ///
    /// This host has no certificates to trust.
    pub(super) fn new(target: Target) -> io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self {
            target,
            client,
            attempt: ATTEMPT,
        })
    }

    /// Sends an alert once. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    ///
    /// # Cancel safety
    ///
    /// It is not known whether an alert whose future was dropped has arrived.
    pub(super) async fn send(&self, alert: &Alert) -> Result<(), Failure> {
        let until = Instant::now() + self.attempt;
        let request = self.target.request(alert)?;
        let answer = timeout_at(until, self.client.request(request));
        let answer = answer.await.map_err(|_| Failure::Late)?;
        let (head, body) = answer.map_err(|error| failure(&error))?.into_parts();
        // The status says all; a connection whose body does not end in time is closed.
        let _ = timeout_at(until, Limited::new(body, MAX_BODY).collect()).await;
        match head.status {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err(Failure::Gone),
            status => Err(Failure::Refused {
                status,
                retry_after: retry_after(&head.headers, clock::now()),
            }),
        }
    }
}

// === impl Failure ===

impl Failure {
    /// How long the receiver asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The kind of an error, whose own words may name the URL.
fn failure(error: &ClientError) -> Failure {
    let mut kind = io::ErrorKind::Other;
    let mut cause = error.source();
    while let Some(error) = cause {
        cause = match error.downcast_ref::<io::Error>() {
            Some(error) => {
                kind = error.kind();
                // One that wraps another has the other's source, and not the other, for its own.
                error
                    .get_ref()
                    .map(|inner| inner as &(dyn StdError + 'static))
            }
            None => error.source(),
        };
    }
    match (error.is_connect(), kind) {
        (true, io::ErrorKind::InvalidData) => Failure::Untrusted,
        (true, kind) => Failure::Unreachable(kind),
        (false, kind) => Failure::Broken(kind),
    }
}
