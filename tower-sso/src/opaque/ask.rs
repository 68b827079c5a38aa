use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, InvalidHeaderValue, USER_AGENT},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::pace::Failure;
use crate::{HttpClient, form};

/// A question to an issuer.
pub(super) struct Ask<'a> {
    client: &'a dyn HttpClient,
    header: Option<(HeaderName, HeaderValue)>,
}

/// The most bytes of an answer that are read.
const LIMIT: usize = 1024 * 1024;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

// === impl Ask ===

impl<'a> Ask<'a> {
    pub(super) fn new(client: &'a dyn HttpClient) -> Self {
        Self {
            client,
            header: None,
        }
    }

    /// Sends this header, too.
    pub(super) fn header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
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
        if let Some((name, value)) = &self.header {
            headers.insert(name, value.clone());
        }
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, kind);
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        match timeout(TIMEOUT, self.client.send(request, LIMIT)).await {
            Ok(Ok(answer)) if answer.status().is_server_error() => Err(Failure::Down),
            Ok(Ok(answer)) if answer.body().len() <= LIMIT => Ok(answer),
            _ => Err(Failure::Down),
        }
    }
}

/// What an answer says of one token. JSON of another form than expected is that token's matter.
pub(super) fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, Failure> {
    serde_json::from_slice(answer.body()).map_err(|error| match error.is_data() {
        true => Failure::Withheld,
        false => Failure::Down,
    })
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
