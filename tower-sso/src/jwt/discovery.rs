use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header::ACCEPT, uri::Scheme};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::timeout;

use super::config::ConfigError;
use crate::{HttpClient, HttpError};

/// Where an issuer's keys are, found by OpenID Connect Discovery 1.0.
pub(super) struct Discovery {
    issuer: Arc<str>,
    /// What the document calls the issuer.
    documented: Arc<str>,
    transport: Transport,
    document: Uri,
    client: Arc<dyn HttpClient>,
    /// Where the keys were found, until they are not there.
    keys: Mutex<Option<Uri>>,
}

/// Why the keys of an issuer could not be had.
#[derive(Debug, Error)]
pub(super) enum DiscoveryError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the issuer answered with status {0}")]
    Status(u16),
    #[error("the issuer did not answer in time")]
    TimedOut,
    #[error("the document is too large")]
    TooLarge,
    #[error("the discovery document cannot be read")]
    Document,
    #[error("the discovery document is another issuer's")]
    Issuer,
    #[error("the address of the keys is not one to fetch from")]
    Address,
    #[error("the document holds no usable key")]
    NoKeys,
}

/// How an issuer is reached. Keys are never fetched by a weaker way than the issuer's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    Tls,
    Loopback,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// The most bytes of a document that are read. The largest key sets in use, with certificate chains,
/// have some tens of KiB.
const LIMIT: usize = 1024 * 1024;

/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);

// === impl Discovery ===

impl Discovery {
    pub(super) fn new(issuer: Arc<str>, client: Arc<dyn HttpClient>) -> Result<Self, ConfigError> {
        // Section 4 of the standard: a slash at the end goes before the path is added.
        let base = issuer.strip_suffix('/').unwrap_or(&issuer);
        let (document, transport) = Some(format!("{base}/.well-known/openid-configuration"))
            .filter(|_| !issuer.contains('?'))
            .and_then(|address| parse_address(&address))
            .ok_or(ConfigError::Issuer)?;
        Ok(Self {
            documented: Arc::clone(&issuer),
            issuer,
            transport,
            document,
            client,
            keys: Mutex::new(None),
        })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Expects the document to call the issuer so, in place of where it is.
    pub(super) fn expect_issuer(&mut self, issuer: &str) {
        self.documented = issuer.into();
    }

    /// Fetches the document that holds the keys, after the one that says where it is.
    pub(super) async fn fetch_keys(&self) -> Result<Bytes, DiscoveryError> {
        let known = self.keys().clone();
        let address = match known {
            Some(address) => address,
            None => {
                let address = self.discover().await?;
                self.keys().insert(address).clone()
            }
        };
        self.get(&address).await
    }

    /// Forgets where the keys were, so that the next fetch asks the issuer again.
    pub(super) fn forget(&self) {
        *self.keys() = None;
    }

    async fn discover(&self) -> Result<Uri, DiscoveryError> {
        let body = self.get(&self.document).await?;
        let document: Document =
            serde_json::from_slice(&body).map_err(|_| DiscoveryError::Document)?;
        // Section 4.3: identical, or the document speaks for somebody else.
        if document.issuer != *self.documented {
            return Err(DiscoveryError::Issuer);
        }
        match parse_address(&document.jwks_uri) {
            Some((address, transport)) if transport == self.transport => Ok(address),
            Some((address, Transport::Tls)) => Ok(address),
            _ => Err(DiscoveryError::Address),
        }
    }

    async fn get(&self, address: &Uri) -> Result<Bytes, DiscoveryError> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = address.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let response = timeout(TIMEOUT, self.client.send(request, LIMIT))
            .await
            .map_err(|_| DiscoveryError::TimedOut)??;
        if response.status() != StatusCode::OK {
            return Err(DiscoveryError::Status(response.status().as_u16()));
        }
        let body = response.into_body();
        if body.len() > LIMIT {
            return Err(DiscoveryError::TooLarge);
        }
        Ok(body)
    }

    fn keys(&self) -> MutexGuard<'_, Option<Uri>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// An absolute address that may be fetched from: `https`, or `http` on this machine.
pub(crate) fn parse_address(text: &str) -> Option<(Uri, Transport)> {
    // A fragment is dropped in parsing, a user is an old trick to hide the host.
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let host = authority.host();
    if text.contains('#') || authority.as_str().contains('@') || host.is_empty() {
        return None;
    }
    let transport = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Transport::Tls,
        Some(scheme) if *scheme == Scheme::HTTP && is_loopback(host) => Transport::Loopback,
        _ => return None,
    };
    Some((uri, transport))
}

fn is_loopback(host: &str) -> bool {
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HttpFuture;

    #[test]
    fn only_https_and_this_machine_are_fetched_from() {
        let transport = |text| parse_address(text).map(|(_, transport)| transport);

        for tls in [
            "https://login.example.com",
            "https://login.example.com:8443/a?b=c",
            "HTTPS://login.example.com/",
        ] {
            assert_eq!(transport(tls), Some(Transport::Tls), "{tls}");
        }
        for loopback in [
            "http://127.0.0.1:9000/keys",
            "http://127.9.9.9/",
            "http://[::1]:9000/",
            "http://localhost:9000/",
        ] {
            assert_eq!(transport(loopback), Some(Transport::Loopback), "{loopback}");
        }
        for refused in [
            "",
            "login.example.com",
            "/keys",
            "http://login.example.com/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "http://127.0.0.1@example.com/",
            "https://user@example.com/",
            "https://example.com/#keys",
            "http://169.254.169.254/",
            "http://0.0.0.0/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
        ] {
            assert_eq!(transport(refused), None, "{refused}");
        }
    }

    #[test]
    fn the_document_is_below_the_issuer() {
        let document = |issuer: &str| {
            let client =
                |_: Request<Bytes>, _: usize| HttpFuture::ready(Err(HttpError::new("never")));
            Discovery::new(issuer.into(), Arc::new(client))
                .map(|discovery| discovery.document.to_string())
        };
        let path = "/.well-known/openid-configuration";
        for (issuer, base) in [
            ("https://a.example", "https://a.example"),
            ("https://a.example/", "https://a.example"),
            ("https://a.example/realms/x", "https://a.example/realms/x"),
            (
                "https://a.example/tenant/v2.0/",
                "https://a.example/tenant/v2.0",
            ),
        ] {
            assert_eq!(document(issuer), Ok(format!("{base}{path}")));
        }
        for issuer in [
            "https://a.example?x",
            "https://a.example#x",
            "a.example",
            "http://a.example",
        ] {
            assert_eq!(document(issuer), Err(ConfigError::Issuer), "{issuer}");
        }
    }
}
