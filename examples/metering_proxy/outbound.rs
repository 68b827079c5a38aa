//! The way to the server behind.

use std::error::Error;
use std::io;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderMap};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tower::BoxError;

use super::Body;

/// Headers that are between neighbours only (RFC 9110, section 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The server behind.
#[derive(Clone)]
pub(crate) struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    /// As `https://api.openai.com`.
    origin: String,
}

impl Upstream {
    pub(crate) fn new(origin: &str) -> io::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            origin: origin.trim_end_matches('/').to_owned(),
        })
    }

    /// Sends a request on, with the client's own key.
    pub(crate) async fn forward(
        self,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, BoxError> {
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        let Ok(uri) = format!("{}{path}", self.origin).parse::<Uri>() else {
            return Ok(empty(StatusCode::BAD_REQUEST));
        };
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().remove(HOST);
        end_to_end(request.headers_mut());
        match self.client.request(request).await {
            Ok(mut answer) => {
                end_to_end(answer.headers_mut());
                Ok(answer.map(boxed))
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "server behind is away");
                Ok(empty(StatusCode::BAD_GATEWAY))
            }
        }
    }
}

fn end_to_end(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|names| names.to_str().ok())
        .flat_map(|names| names.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    for name in named.iter().map(String::as_str).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(boxed(Empty::new()));
    *response.status_mut() = status;
    response
}

pub(crate) fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}
