use std::{error::Error, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header::ACCEPT};
use serde::Deserialize;
use thiserror::Error;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{failure::Failure, provider::ClientAuth, provider_kind::Issuer};
use crate::{
    HttpClient, HttpError,
    jwt::{Transport, parse_address},
};

/// Where a provider is asked what, and what it can do.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// The `iss` its callbacks name; `None` where each tenant has another.
    pub(super) issuer: Option<Box<str>>,
    /// Whether its callbacks name the issuer always (RFC 9207 section 3).
    pub(super) names_issuer: bool,
    pub(super) authorization: String,
    pub(super) token: Uri,
    pub(super) userinfo: Option<Uri>,
    pub(super) end_session: Option<String>,
    pub(super) client_auth: ClientAuth,
    /// Whether `offline_access` is among its scopes.
    pub(super) has_offline_access: bool,
}

/// The metadata of a provider: known, or discovered when needed and kept.
#[derive(Debug)]
pub(super) enum Endpoints {
    Fixed(Arc<Metadata>),
    Discovered(Box<Discovered>),
}

/// Metadata by OpenID Connect Discovery 1.0.
pub(super) struct Discovered {
    issuer: Issuer,
    document: Uri,
    transport: Transport,
    client: Arc<dyn HttpClient>,
    held: ArcSwapOption<Held>,
    /// Held by who asks; when it may be asked again after a failure.
    not_before: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Held {
    metadata: Arc<Metadata>,
    fetched: Instant,
}

/// Why the metadata of a provider could not be had.
#[derive(Debug, Error)]
enum MetadataError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the provider answered with status {0}")]
    Status(u16),
    #[error("the provider did not answer in time")]
    TimedOut,
    #[error("the discovery document cannot be read")]
    Document,
    #[error("the discovery document is another issuer's")]
    Issuer,
    #[error("an address in the discovery document is not one to use")]
    Address,
}

/// OpenID Connect Discovery 1.0 section 3, RFC 8414 section 2, RFC 9207 section 3.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    scopes_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// The most bytes of an answer of a provider that are read.
pub(super) const LIMIT: usize = 256 * 1024;

/// How long a request to a provider may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// How long metadata counts as current.
const TTL: Duration = Duration::from_secs(3600);

/// How long a provider that could not say where it is asked is left alone, with metadata at hand and
/// without.
const PAUSE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);

// === impl Endpoints ===

impl Endpoints {
    pub(super) fn discovered(issuer: Issuer, client: Arc<dyn HttpClient>) -> Option<Self> {
        let base = match &issuer {
            Issuer::One(issuer) => issuer,
            Issuer::Tenants { base, .. } => base,
        };
        let base = base.strip_suffix('/').unwrap_or(base);
        let address = format!("{base}/.well-known/openid-configuration");
        let (document, transport) = parse_address(&address).filter(|_| !base.contains('?'))?;
        Some(Self::Discovered(Box::new(Discovered {
            issuer,
            document,
            transport,
            client,
            held: ArcSwapOption::empty(),
            not_before: Mutex::default(),
        })))
    }

    /// The metadata. Old ones serve as long as there are no new ones.
    pub(super) async fn find(&self) -> Result<Arc<Metadata>, Failure> {
        match self {
            Self::Fixed(metadata) => Ok(Arc::clone(metadata)),
            Self::Discovered(discovered) => {
                discovered.find().await.ok_or(Failure::ProviderUnavailable)
            }
        }
    }
}

// === impl Discovered ===

impl Discovered {
    async fn find(&self) -> Option<Arc<Metadata>> {
        let held = self.held.load_full();
        if let Some(current) = held.as_deref().and_then(Held::current) {
            return Some(current);
        }
        let old = held.map(|held| Arc::clone(&held.metadata));
        // With old ones at hand nobody waits for who asks already.
        let mut not_before = match &old {
            Some(_) => match self.not_before.try_lock() {
                Ok(guard) => guard,
                Err(_) => return old,
            },
            None => self.not_before.lock().await,
        };
        if let Some(current) = self.held.load().as_deref().and_then(Held::current) {
            return Some(current);
        }
        if not_before.is_some_and(|until| Instant::now() < until) {
            return old;
        }
        match self.fetch().await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                self.held.store(Some(Arc::new(Held {
                    metadata: Arc::clone(&metadata),
                    fetched: Instant::now(),
                })));
                *not_before = None;
                Some(metadata)
            }
            Err(error) => {
                tracing::warn!(
                    provider = %self.document,
                    error = &error as &(dyn Error + 'static),
                    "the metadata of the provider could not be had"
                );
                let pause = if old.is_some() { PAUSE } else { FIRST_PAUSE };
                *not_before = Instant::now().checked_add(pause);
                old
            }
        }
    }

    async fn fetch(&self) -> Result<Metadata, MetadataError> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.document.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let response = timeout(TIMEOUT, self.client.send(request, LIMIT))
            .await
            .map_err(|_| MetadataError::TimedOut)??;
        if response.status() != StatusCode::OK {
            return Err(MetadataError::Status(response.status().as_u16()));
        }
        let document: Document =
            serde_json::from_slice(response.body()).map_err(|_| MetadataError::Document)?;
        self.read(document)
    }

    fn read(&self, document: Document) -> Result<Metadata, MetadataError> {
        let issuer = match &self.issuer {
            Issuer::One(issuer) if **issuer == *document.issuer => Some(issuer.clone()),
            Issuer::Tenants { .. } if document.issuer == TENANTS_ISSUER => None,
            _ => return Err(MetadataError::Issuer),
        };
        let auth_methods = document.token_endpoint_auth_methods_supported;
        let takes_post = auth_methods
            .iter()
            .flatten()
            .any(|method| method == "client_secret_post");
        let has_offline_access = document
            .scopes_supported
            .iter()
            .flatten()
            .any(|scope| scope == "offline_access");
        Ok(Metadata {
            issuer,
            names_issuer: document.authorization_response_iss_parameter_supported,
            token: self.address(&document.token_endpoint)?,
            userinfo: document
                .userinfo_endpoint
                .map(|address| self.address(&address))
                .transpose()?,
            end_session: document
                .end_session_endpoint
                .map(|address| self.address(&address).map(|_| address))
                .transpose()?,
            authorization: {
                self.address(&document.authorization_endpoint)?;
                document.authorization_endpoint
            },
            client_auth: if takes_post {
                ClientAuth::Post
            } else {
                ClientAuth::Basic
            },
            has_offline_access,
        })
    }

    /// An address that may be used: never by a weaker way than the provider's own.
    fn address(&self, text: &str) -> Result<Uri, MetadataError> {
        match parse_address(text) {
            Some((address, transport))
                if transport == self.transport || transport == Transport::Tls =>
            {
                Ok(address)
            }
            _ => Err(MetadataError::Address),
        }
    }
}

impl fmt::Debug for Discovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovered")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

// === impl Held ===

impl Held {
    fn current(&self) -> Option<Arc<Metadata>> {
        (self.fetched.elapsed() < TTL).then(|| Arc::clone(&self.metadata))
    }
}

/// What the document for all tenants of Entra calls the issuer ("Application types for the Microsoft
/// identity platform", section on issuer validation).
pub(super) const TENANTS_ISSUER: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";
