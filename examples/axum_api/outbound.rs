//! What goes out to the provider. Here goes the HTTP client you have.

use std::convert::Infallible;
use std::error::Error;
use std::io;

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tower_usage::llm::CallBody;

/// A client for `https`, and for `http` on this machine.
pub(crate) type Client = legacy::Client<HttpsConnector<HttpConnector>, Body>;

/// Whom we ask for answers, and with which key.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) client: Client,
    pub(crate) completions: Uri,
    pub(crate) authorization: HeaderValue,
}

pub(crate) fn client() -> io::Result<Client> {
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(legacy::Client::builder(TokioExecutor::new()).build(connector))
}

/// Sends a model call on with our key. Of the client's headers none goes along, of the provider's only what describes
/// the body.
pub(crate) async fn forward(
    provider: Provider,
    request: Request<CallBody>,
) -> Result<Response<Body>, Infallible> {
    let mut outbound = Request::new(Body::new(request.into_body()));
    *outbound.method_mut() = Method::POST;
    *outbound.uri_mut() = provider.completions;
    let headers = outbound.headers_mut();
    headers.insert(AUTHORIZATION, provider.authorization);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = match provider.client.request(outbound).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(error = &error as &dyn Error, "provider cannot be reached");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            return Ok(response);
        }
    };
    let (head, body) = answer.into_parts();
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = head.status;
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    Ok(response)
}
