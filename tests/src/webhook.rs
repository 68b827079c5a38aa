//! A receiver of webhooks, in the process of the test.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::error::{Error, Result};

/// Longer than what failed a few times is left alone, or what was under way when a gateway was killed.
const LIMIT: Duration = Duration::from_secs(90);

/// A receiver on a loopback port. Dropping it closes the port.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    accept: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    answer: StatusCode,
    deliveries: Vec<Delivery>,
}

/// What has arrived.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// Where.
    pub uri: Uri,
    /// With which headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What it was answered.
    pub answer: StatusCode,
}

impl Webhook {
    /// Starts a receiver that answers `status` to everything.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] when there is no port to listen on.
    pub async fn start(status: StatusCode) -> Result<Self> {
        let failed = |error| Error::connection("a loopback port", error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Mutex::new(Shared {
            answer: status,
            deliveries: Vec::new(),
        }));
        Ok(Self {
            address,
            accept: tokio::spawn(accept(listener, Arc::clone(&shared))),
            shared,
        })
    }

    /// The URL of a path: `http://127.0.0.1:<port>/…`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers `status` from now on.
    pub fn answer(&self, status: StatusCode) {
        lock(&self.shared).answer = status;
    }

    /// Everything that has arrived, the first first.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.shared).deliveries.clone()
    }

    /// Waits for something that is answered `status`; everything that has arrived then.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] after a minute and a half.
    pub async fn wait_for(&self, status: StatusCode) -> Result<Vec<Delivery>> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let deliveries = self.deliveries();
            if deliveries.iter().any(|one| one.answer == status) {
                return Ok(deliveries);
            }
            if Instant::now() > deadline {
                let what = format!("a webhook that is answered {status}");
                return Err(Error::Late(LIMIT, what));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

// === impl Delivery ===

impl Delivery {
    /// A header's value; nothing where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] when it is something else.
    pub fn json(&self) -> Result<Value> {
        let shown = || String::from_utf8_lossy(&self.body).into_owned();
        serde_json::from_slice(&self.body).map_err(|_| Error::unexpected("body", shown()))
    }

    /// Whether one of its signatures is of this secret, `whsec_…` (Standard Webhooks, "Verifying webhook
    /// authenticity").
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let secret = secret.strip_prefix("whsec_").unwrap_or_default();
        let Ok(secret) = STANDARD.decode(secret) else {
            return false;
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let (id, at) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let content = [format!("{id}.{at}.").as_bytes(), &self.body].concat();
        let signatures = self.header("webhook-signature").split(' ');
        let mut signatures = signatures.filter_map(|signature| {
            let signature = signature.strip_prefix("v1,")?;
            STANDARD.decode(signature).ok()
        });
        signatures.any(|signature| hmac::verify(&key, &content, &signature).is_ok())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| take(Arc::clone(&shared), request));
        // A connection that breaks is the sender's business.
        tokio::spawn(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn take(
    shared: Arc<Mutex<Shared>>,
    request: Request<Incoming>,
) -> hyper::Result<Response<Empty<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut shared = lock(&shared);
    let answer = shared.answer;
    shared.deliveries.push(Delivery {
        uri: head.uri,
        headers: head.headers,
        body,
        answer,
    });
    let mut response = Response::new(Empty::new());
    *response.status_mut() = answer;
    Ok(response)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
