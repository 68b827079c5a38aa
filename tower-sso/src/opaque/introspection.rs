use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri};
use serde::{Deserialize, de::IgnoredAny};
use tokio::sync::Mutex;

use super::{
    ask::{Ask, basic},
    pace::Failure,
    verifier::{Issuer, Verifier},
};
use crate::{
    HttpClient, Identity, Reason, Verdicts, Verify, VerifyFuture, form,
    jwt::{ConfigError, JwtConfig, Transport, introspected, parse_address},
};

/// Opaque access tokens, about each of which its issuer is asked (RFC 7662). The [module](crate::opaque)
/// says how often.
///
/// The answer must call the token `active` and have its `aud` and `sub`; `iss`, `exp`, `nbf` and `iat` count
/// when they are there. A token that is bound to its holder (`cnf`) is refused, and so is one that the answer
/// calls something else than an access token (`token_type`, `token_use`, `typ`) or that has what only ID
/// tokens and security events have (`at_hash`, `c_hash`, `events`). [`JwtConfig::required_type`] and
/// [`JwtConfig::rfc9068`] are for signed tokens alone. Where the answer has none of these, an active refresh
/// token cannot be told from an access token: let your API have an audience that refresh tokens lack.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_sso::{
///     HttpClient, SsoLayer, Verdicts,
///     jwt::{ConfigError, JwtConfig},
///     opaque::Introspection,
/// };
///
/// fn sso(client: Arc<dyn HttpClient>, secret: &str) -> Result<SsoLayer, ConfigError> {
///     let config = JwtConfig::new("https://login.example.com", "my-api").primary(true);
///     let verifier = Introspection::new(config, "my-api", secret, client, Verdicts::default())?;
///     Ok(SsoLayer::new(Arc::new(verifier)))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Introspection(Verifier<Server>);

/// An authorization server that introspects tokens.
struct Server {
    config: JwtConfig,
    authorization: HeaderValue,
    transport: Transport,
    /// Where to ask, until nobody answers there.
    endpoint: Mutex<Option<Uri>>,
    /// How often it could not be found out.
    failures: AtomicU64,
    client: Arc<dyn HttpClient>,
}

/// RFC 8414 section 2.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    #[serde(default)]
    introspection_endpoint: Option<String>,
}

/// RFC 6749 section 5.2.
#[derive(Deserialize)]
struct Refusal {
    error: Box<str>,
}

/// Claims of ID tokens (OpenID Connect Core sections 3.1.3.6 and 3.3.2.11) and of security events such as a
/// logout (RFC 8417 section 2.2), which access tokens do not have.
const OTHERS: [&str; 3] = ["at_hash", "c_hash", "events"];

// === impl Introspection ===

impl Introspection {
    /// Asks the issuer of `config`, as a client of its; where, its discovery document says. What the
    /// configuration says of audience, subject, users and roles holds here too: the answer must name the
    /// audience.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration contradicts itself, or the issuer is not an address to be
    /// discovered at.
    pub fn new(
        config: JwtConfig,
        client_id: &str,
        secret: &str,
        client: Arc<dyn HttpClient>,
        verdicts: Verdicts,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let address = Some(config.name()).filter(|issuer| !issuer.contains('?'));
        let (_, transport) = address.and_then(parse_address).ok_or(ConfigError::Issuer)?;
        let authorization = basic(client_id, secret).map_err(|_| ConfigError::Issuer)?;
        let server = Server {
            config,
            authorization,
            transport,
            endpoint: Mutex::default(),
            failures: AtomicU64::new(0),
            client,
        };
        Ok(Self(Verifier::new(server, verdicts)))
    }
}

impl Verify for Introspection {
    fn verify(&self, token: &str) -> VerifyFuture {
        self.0.verify(token)
    }

    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        self.0.verify_from(token, address)
    }
}

// === impl Server ===

impl Issuer for Server {
    fn config(&self) -> &JwtConfig {
        &self.config
    }

    async fn find(&self, token: &str) -> Result<Identity, Failure> {
        let endpoint = self.endpoint().await?;
        let answer = self.ask(&endpoint, token).await;
        if let Err(Failure::Down) = answer {
            // It may be elsewhere: the next question begins with where.
            let mut known = self.endpoint.lock().await;
            known.take_if(|known| *known == endpoint);
        }
        answer
    }
}

impl Server {
    async fn ask(&self, endpoint: &Uri, token: &str) -> Result<Identity, Failure> {
        let question = form::encode([("token", token), ("token_type_hint", "access_token")]);
        let answer = Ask::new(&*self.client)
            .post_form(endpoint, self.authorization.clone(), question)
            .await?;
        match answer.status() {
            StatusCode::OK => self.judge(answer.body()),
            StatusCode::BAD_REQUEST if is_about_us(answer.body()) => Err(Failure::Down),
            // It cannot even be asked about.
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Refused(Reason::Unknown)),
            _ => Err(Failure::Down),
        }
    }

    fn judge(&self, answer: &Bytes) -> Result<Identity, Failure> {
        let json = str::from_utf8(answer).map_err(|_| Failure::Down)?;
        // An answer that cannot be read is no fault of the token's; all else is.
        let members: BTreeMap<String, IgnoredAny> =
            serde_json::from_str(json).map_err(|_| Failure::Down)?;
        let identity = introspected(json, &self.config, self.config.now());
        let identity = identity.map_err(Failure::Refused)?;
        match OTHERS.iter().any(|name| members.contains_key(*name)) {
            true => Err(Failure::Refused(Reason::Type)),
            false => Ok(identity),
        }
    }

    async fn endpoint(&self) -> Result<Uri, Failure> {
        let failures = self.failures.load(Ordering::Relaxed);
        let mut endpoint = self.endpoint.lock().await;
        if let Some(known) = &*endpoint {
            return Ok(known.clone());
        }
        // Of many that wait one has asked for all.
        if self.failures.load(Ordering::Relaxed) != failures {
            return Err(Failure::Down);
        }
        let found = self.discover().await;
        if found.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        Ok(endpoint.insert(found?).clone())
    }

    async fn discover(&self) -> Result<Uri, Failure> {
        let issuer = self.config.name();
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let address = format!("{base}/.well-known/openid-configuration");
        let address = address.parse().map_err(|_| Failure::Down)?;
        let answer = Ask::new(&*self.client).get(&address, None).await?;
        let document: Option<Document> = Some(answer)
            .filter(|answer| answer.status() == StatusCode::OK)
            .and_then(|answer| serde_json::from_slice(answer.body()).ok());
        document
            .filter(|document| document.issuer == issuer)
            .and_then(|document| parse_address(&document.introspection_endpoint?))
            .filter(|(_, transport)| *transport == self.transport)
            .map(|(endpoint, _)| endpoint)
            .ok_or_else(|| {
                tracing::warn!(issuer, "the issuer names no introspection endpoint");
                Failure::Down
            })
    }
}

/// Whether it is this client that is refused, and not what it asks (RFC 6749 section 5.2).
fn is_about_us(answer: &Bytes) -> bool {
    let refusal: Option<Refusal> = serde_json::from_slice(answer).ok();
    refusal.is_some_and(|refusal| {
        let about_us = ["invalid_client", "unauthorized_client"];
        about_us.contains(&&*refusal.error)
    })
}
