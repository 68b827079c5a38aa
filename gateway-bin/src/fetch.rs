//! Documents of the issuer, over HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower_sso::jwt::{Fetch, FetchError, FetchFuture};

/// How long a document may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches documents; follows no redirects.
#[derive(Clone, Debug)]
pub struct HttpFetch {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

// === impl HttpFetch ===

impl HttpFetch {
    /// A client that trusts this host's certificates.
    ///
    /// # Errors
    ///
    /// This host has none.
    pub fn new() -> std::io::Result<Self> {
        // Which addresses may be plain http is the verifier's to say: the loopback ones.
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }
}

impl Fetch for HttpFetch {
    fn fetch(&self, uri: &Uri, limit: usize) -> FetchFuture {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        let client = self.client.clone();
        FetchFuture::boxed(async move {
            let fetched = tokio::time::timeout(TIMEOUT, async {
                let response = client.request(request).await.map_err(FetchError::new)?;
                if !response.status().is_success() {
                    return Err(FetchError::new(format!(
                        "status {}",
                        response.status().as_u16()
                    )));
                }
                let body = Limited::new(response.into_body(), limit).collect().await;
                body.map(http_body_util::Collected::to_bytes)
                    .map_err(FetchError::new)
            });
            fetched
                .await
                .unwrap_or_else(|_| Err(FetchError::new("no answer in time")))
        })
    }
}
