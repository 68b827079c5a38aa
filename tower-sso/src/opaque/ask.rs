use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, InvalidHeaderValue, USER_AGENT},
};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::pace::Failure;
use crate::{HttpClient, form};

/// Asks an issuer about tokens.
#[derive(Clone)]
pub(super) struct Ask(Arc<dyn HttpClient>);

/// The most bytes of an answer that are read.
const LIMIT: usize = 1024 * 1024;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

// === impl Ask ===

impl Ask {
    pub(super) fn new(client: Arc<dyn HttpClient>) -> Self {
        Self(client)
    }

    /// Gets a document.
    ///
    /// # Errors
    ///
    /// As all questions, [`Failure::Down`] if there is no answer, or one that the issuer itself calls a
    /// fault. An answer with any other status is one.
    pub(super) async fn get(
        &self,
        address: &Uri,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Bytes>, Failure> {
        self.send(Method::GET, address, authorization, None).await
    }

    /// Posts a form.
    pub(super) async fn post_form(
        &self,
        address: &Uri,
        authorization: HeaderValue,
        form: String,
    ) -> Result<Response<Bytes>, Failure> {
        let body = Some((FORM, form.into()));
        self.send(Method::POST, address, Some(authorization), body)
            .await
    }

    /// Posts JSON.
    pub(super) async fn post_json(
        &self,
        address: &Uri,
        authorization: HeaderValue,
        json: String,
    ) -> Result<Response<Bytes>, Failure> {
        let body = Some((JSON, json.into()));
        self.send(Method::POST, address, Some(authorization), body)
            .await
    }

    async fn send(
        &self,
        method: Method,
        address: &Uri,
        authorization: Option<HeaderValue>,
        body: Option<(HeaderValue, Bytes)>,
    ) -> Result<Response<Bytes>, Failure> {
        let (kind, body) = body.map_or((None, Bytes::new()), |(kind, body)| (Some(kind), body));
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = address.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, JSON);
        // GitHub answers nobody who does not say who asks.
        headers.insert(USER_AGENT, HeaderValue::from_static("tower-sso"));
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, kind);
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        match timeout(TIMEOUT, self.0.send(request, LIMIT)).await {
            Ok(Ok(answer)) if answer.status().is_server_error() => Err(Failure::Down),
            Ok(Ok(answer)) if answer.body().len() <= LIMIT => Ok(answer),
            _ => Err(Failure::Down),
        }
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").finish_non_exhaustive()
    }
}

/// The `Authorization` of somebody who has a token.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    sensitive(&Zeroizing::new(format!("Bearer {token}")))
}

/// The `Authorization` of a client: both parts are encoded as in a form before they are joined (RFC 6749
/// section 2.3.1).
pub(super) fn basic(client_id: &str, secret: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut pair = Zeroizing::new(String::new());
    form::escape(client_id, &mut pair);
    pair.push(':');
    form::escape(secret, &mut pair);
    let encoded = Zeroizing::new(STANDARD.encode(&*pair));
    sensitive(&Zeroizing::new(format!("Basic {}", *encoded)))
}

fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(text)?;
    value.set_sensitive(true);
    Ok(value)
}
