use std::{collections::BTreeMap, sync::Arc};

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
/// calls something else than an access token (`token_type`, `token_use`, `typ`).
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
    /// Where to ask, until it is not there.
    endpoint: Mutex<Option<Uri>>,
    client: Arc<dyn HttpClient>,
}

/// RFC 8414 section 2.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    #[serde(default)]
    introspection_endpoint: Option<String>,
}

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
        let (_, transport) = parse_address(config.name()).ok_or(ConfigError::Issuer)?;
        let authorization = basic(client_id, secret).map_err(|_| ConfigError::Issuer)?;
        let server = Server {
            config,
            authorization,
            transport,
            endpoint: Mutex::default(),
            client,
        };
        Ok(Self(Verifier::new(server, verdicts)))
    }
}

impl Verify for Introspection {
    fn verify(&self, token: &str) -> VerifyFuture {
        self.0.verify(token)
    }
}

// === impl Server ===

impl Issuer for Server {
    fn config(&self) -> &JwtConfig {
        &self.config
    }

    async fn find(&self, token: &str) -> Result<Identity, Failure> {
        let endpoint = self.endpoint().await?;
        let question = form::encode([("token", token), ("token_type_hint", "access_token")]);
        let answer = Ask::new(&*self.client)
            .post_form(&endpoint, self.authorization.clone(), question)
            .await?;
        match answer.status() {
            StatusCode::OK => self.judge(answer.body()),
            // It cannot even be asked about.
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Refused(Reason::Unknown)),
            // It is elsewhere: the next question begins with where.
            status if status.is_redirection() || status == StatusCode::NOT_FOUND => {
                *self.endpoint.lock().await = None;
                Err(Failure::Down)
            }
            _ => Err(Failure::Down),
        }
    }
}

impl Server {
    fn judge(&self, answer: &Bytes) -> Result<Identity, Failure> {
        let json = str::from_utf8(answer).map_err(|_| Failure::Down)?;
        introspected(json, &self.config, self.config.now()).map_err(|reason| {
            // Is it an answer that only this token is to blame for?
            let members = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(json);
            match (reason, members) {
                (Reason::Malformed, Err(_)) => Failure::Down,
                _ => Failure::Refused(reason),
            }
        })
    }

    async fn endpoint(&self) -> Result<Uri, Failure> {
        let mut endpoint = self.endpoint.lock().await;
        match &*endpoint {
            Some(known) => Ok(known.clone()),
            None => Ok(endpoint.insert(self.discover().await?).clone()),
        }
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
