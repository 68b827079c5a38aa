//! An HTTP client for tests: a request in, a whole answer out.

use std::{sync::OnceLock, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::timeout;

use crate::error::{Error, Result};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A whole answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// `GET` of a URL, with a bearer token where there is one.
///
/// # Errors
///
/// As [`send`].
pub async fn get(url: &str, bearer: Option<&str>) -> Result<Response> {
    send(authorized(Request::get(url), bearer), Bytes::new()).await
}

/// `POST` of a JSON value, with a bearer token where there is one.
///
/// # Errors
///
/// As [`send`].
pub async fn post(url: &str, bearer: Option<&str>, body: &Value) -> Result<Response> {
    let request = Request::post(url).header(header::CONTENT_TYPE, "application/json");
    send(authorized(request, bearer), body.to_string()).await
}

/// Sends any request and reads the whole answer. Follows no redirect and keeps no cookie; the
/// [`Browser`](crate::browser::Browser) does.
///
/// # Errors
///
/// [`Error::Connection`] for a request that cannot be built or a connection that broke,
/// [`Error::Late`] after a minute.
pub async fn send(
    request: http::request::Builder,
    body: impl Into<Bytes> + Send,
) -> Result<Response> {
    let peer = request
        .uri_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let request = request
        .body(Full::new(body.into()))
        .map_err(|error| Error::connection(&peer, error))?;
    let exchange = async {
        let (head, body) = client().request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body,
        })
    };
    timeout(LIMIT, exchange)
        .await
        .map_err(|_| Error::Late(LIMIT, peer.clone()))?
        .map_err(|error: Box<dyn std::error::Error + Send + Sync>| Error::connection(peer, error))
}

fn authorized(request: http::request::Builder, bearer: Option<&str>) -> http::request::Builder {
    match bearer {
        Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    }
}

// Each test has a runtime of its own, and a pooled connection dies with the runtime that made it:
// no connection is kept.
fn client() -> &'static Client<HttpConnector, Full<Bytes>> {
    static CLIENT: OnceLock<Client<HttpConnector, Full<Bytes>>> = OnceLock::new();
    CLIENT.get_or_init(|| {
        Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build_http()
    })
}

// === impl Response ===

impl Response {
    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] with the body when it is something else.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).map_err(|_| Error::unexpected("answer", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// This answer, if its status is `status`.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] with status and body of any other answer.
    pub fn expect_status(self, status: StatusCode) -> Result<Self> {
        if self.status == status {
            return Ok(self);
        }
        Err(Error::unexpected(
            "status",
            format!("{}: {}", self.status, self.text()),
        ))
    }
}
