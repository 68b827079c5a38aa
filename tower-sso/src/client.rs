//! An [`HttpClient`] over hyper and rustls, for those who bring none.

use std::{fmt, io, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::crypto::aws_lc_rs;
use tokio::time::timeout;

use crate::{HttpClient, HttpError, HttpFuture};

/// Asks issuers over HTTP/1.1 and HTTP/2, with the certificates this machine trusts and cryptography
/// by AWS-LC.
///
/// An answer is there within 10 seconds or not at all. Redirects are not followed, proxies of the
/// environment are not used. Cheap to clone; clones share their connections. Needs a Tokio runtime
/// with I/O and time.
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
/// use tower_sso::{client::HyperClient, jwt::{JwtConfig, JwtVerifier}};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = JwtConfig::new("https://login.example.com", "my-api").primary(true);
/// let verifier = JwtVerifier::discover(config, Arc::new(HyperClient::new()?))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HyperClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// How long an answer may take, from the look-up of the name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long one address may take to accept a connection, so that there is time left for another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a connection is kept that nobody uses. Shorter than issuers keep theirs (the shortest
/// default in use is nginx's 75 seconds), so that they seldom close what we send on.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

// === impl HyperClient ===

impl HyperClient {
    /// A client that trusts the certificates of this machine.
    ///
    /// # Errors
    ///
    /// This machine has none that can be read.
    pub fn new() -> io::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        // Which addresses may be plain http is decided by who asks: those of this machine.
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(Self { client })
    }
}

impl HttpClient for HyperClient {
    fn send(&self, request: Request<Bytes>, limit: usize) -> HttpFuture {
        let response = self.client.request(request.map(Full::new));
        HttpFuture::boxed(async move {
            let whole = async {
                let (head, body) = response.await.map_err(HttpError::new)?.into_parts();
                let body = Limited::new(body, limit).collect().await;
                let body = body.map_err(HttpError::new)?.to_bytes();
                Ok(Response::from_parts(head, body))
            };
            timeout(TIMEOUT, whole)
                .await
                .unwrap_or_else(|_| Err(HttpError::new("no answer in time")))
        })
    }
}

impl fmt::Debug for HyperClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HyperClient").finish_non_exhaustive()
    }
}
