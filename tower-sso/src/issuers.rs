use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use thiserror::Error;

use crate::{
    HttpClient, Reason, Verdicts, Verify, VerifyError, VerifyFuture,
    jwt::{Clock as _, ConfigError, JwtConfig, JwtVerifier, SystemClock},
    token::MAX_LENGTH,
    verdicts::{Era, TokenHash},
};

/// Tokens of several issuers, and other credentials beside them.
///
/// A signed token goes to the verifier of exactly the issuer that it names, and to no other: the name is
/// read before the signature is verified, only to choose by. A token that begins with a registered prefix
/// goes to the verifier of that prefix; any other opaque token to the opaque verifiers, one after the other, until
/// one knows it: so each may see tokens of the others, and where tokens have prefixes these are the better way. A token that was verified a moment ago costs a hash and a look-up, however many issuers
/// there are. Cheap to clone.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_sso::{HttpClient, Issuers, SsoLayer, Verdicts, Verify, jwt::JwtConfig};
///
/// # fn example(client: Arc<dyn HttpClient>, own: Arc<dyn Verify>) -> Result<(), Box<dyn std::error::Error>> {
/// let issuers = Issuers::builder(Verdicts::new(100_000), client)
///     .issuer(JwtConfig::new("https://login.example.com", "api").alias("corp").primary(true))
///     .issuer(JwtConfig::new("https://partner.example", "api").alias("partner"))
///     .prefixed("pat_", own)
///     .build()?;
/// let layer = SsoLayer::new(Arc::new(issuers));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Issuers(Arc<Inner>);

struct Inner {
    verdicts: Verdicts,
    signed: Vec<(Box<str>, JwtVerifier)>,
    prefixed: Vec<(Box<str>, Arc<dyn Verify>)>,
    opaque: Vec<Arc<dyn Verify>>,
    /// Of what the opaque verifiers say together, where there are several.
    era: Era,
}

/// Builds [`Issuers`]. See [`Issuers::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct IssuersBuilder {
    verdicts: Verdicts,
    client: Arc<dyn HttpClient>,
    configs: Vec<JwtConfig>,
    prefixed: Vec<(Box<str>, Arc<dyn Verify>)>,
    opaque: Vec<Arc<dyn Verify>>,
}

/// Issuers that cannot stand beside one another.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum IssuersError {
    /// Two have one name, or one alias: their users would be one another.
    #[error("the issuer `{0}`, or its alias, is there twice")]
    Repeated(Box<str>),
    /// Two are primary: their users would be one another.
    #[error("the issuer `{0}` is a second primary one")]
    SecondPrimary(Box<str>),
    /// One cannot be used.
    #[error("the issuer `{issuer}` cannot be used")]
    Config {
        /// Its name.
        issuer: Box<str>,
        /// Why.
        source: ConfigError,
    },
}

/// How the header of every signed token begins: `{"` in base64url.
const HEADER: &str = "eyJ";

/// The one claim that is read before the signature is verified.
#[derive(Deserialize)]
struct Named {
    iss: Box<str>,
}

// === impl Issuers ===

impl Issuers {
    /// Begins without any, with a cache for all of them and a client that asks for their keys.
    pub fn builder(verdicts: Verdicts, client: Arc<dyn HttpClient>) -> IssuersBuilder {
        IssuersBuilder {
            verdicts,
            client,
            configs: Vec::new(),
            prefixed: Vec::new(),
            opaque: Vec::new(),
        }
    }

    /// The verifiers of signed tokens, in the order in which they were added.
    pub fn verifiers(&self) -> impl Iterator<Item = &JwtVerifier> {
        self.0.signed.iter().map(|(_, verifier)| verifier)
    }

    fn now(&self) -> SystemTime {
        let first = self.0.signed.first();
        first.map_or_else(|| SystemClock.now(), |(_, verifier)| verifier.now())
    }
}

impl Verify for Issuers {
    fn verify(&self, token: &str) -> VerifyFuture {
        self.verify_from(token, None)
    }

    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        if token.len() > MAX_LENGTH {
            return refuse(Reason::TooLong);
        }
        let Inner {
            verdicts,
            signed,
            prefixed,
            opaque,
            era,
        } = &*self.0;
        if let Some((_, verifier)) = prefixed
            .iter()
            .find(|(prefix, _)| token.starts_with(&**prefix))
        {
            return verifier.verify_from(token, address);
        }
        let opaquely = || match opaque.as_slice() {
            [] => refuse(Reason::Malformed),
            [only] => only.verify_from(token, address),
            _ => {
                let ask = || Ok(ask_all(Arc::clone(&self.0), token.to_owned(), address));
                // Each of them remembers what it refused.
                let refusals = Duration::ZERO;
                verdicts.get_or_ask(TokenHash::new(token), era, self.now(), refusals, ask)
            }
        };
        // Dots alone make no signed token: the example of RFC 7662 §2.1 has two. Nor is a token that has a header asked
        // about because it is a bad one.
        let has_parts = token.bytes().filter(|byte| *byte == b'.').count() == 2;
        if !has_parts || (!opaque.is_empty() && !token.starts_with(HEADER)) {
            return opaquely();
        }
        match signed.as_slice() {
            [(_, only)] => return only.verify(token),
            [] => return refuse(Reason::Issuer),
            _ => {
                let is_ours = |era: &_| signed.iter().any(|(_, verifier)| verifier.is_of(era));
                let hash = TokenHash::new(token);
                if let Some(identity) = verdicts.recall(&hash, self.now(), is_ours) {
                    return VerifyFuture::ready(Ok(identity));
                }
            }
        }
        match issuer_of(token) {
            Ok(issuer) => match signed.iter().find(|(own, _)| *own == issuer) {
                Some((_, verifier)) => verifier.verify(token),
                None => refuse(Reason::Issuer),
            },
            Err(reason) => refuse(reason),
        }
    }
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.signed.iter().map(|(issuer, _)| issuer).collect();
        f.debug_struct("Issuers")
            .field("issuers", &names)
            .finish_non_exhaustive()
    }
}

/// Asks one after the other. That one cannot be asked is the answer only if none of the others knows the
/// token.
async fn ask_all(
    inner: Arc<Inner>,
    token: String,
    address: Option<IpAddr>,
) -> <VerifyFuture as Future>::Output {
    let mut answer = Err(VerifyError::Invalid(Reason::Unknown));
    for verifier in &inner.opaque {
        match verifier.verify_from(&token, address).await {
            Ok(identity) => return Ok(identity),
            Err(VerifyError::Unavailable) => answer = Err(VerifyError::Unavailable),
            Err(VerifyError::Invalid(_)) => {}
        }
    }
    answer
}

fn refuse(reason: Reason) -> VerifyFuture {
    VerifyFuture::ready(Err(VerifyError::Invalid(reason)))
}

/// Whom a token says it is of. Nothing is believed: the verifier of that issuer reads it again, strictly.
fn issuer_of(token: &str) -> Result<Box<str>, Reason> {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| Reason::Malformed)?;
    let named: Named = serde_json::from_slice(&payload).map_err(|_| Reason::Malformed)?;
    Ok(named.iss)
}

// === impl IssuersBuilder ===

impl IssuersBuilder {
    /// Adds an issuer of signed tokens, whose keys are found by discovery. It shares the verdicts.
    pub fn issuer(mut self, config: JwtConfig) -> Self {
        self.configs.push(config);
        self
    }

    /// Sends tokens with this prefix to a verifier of their own.
    pub fn prefixed(mut self, prefix: &str, verifier: Arc<dyn Verify>) -> Self {
        self.prefixed.push((prefix.into(), verifier));
        self
    }

    /// Asks this verifier too about tokens that are neither signed nor prefixed. If it remembers verdicts,
    /// it should do so in the same place: then a verdict is never older than it says.
    pub fn opaque(mut self, verifier: Arc<dyn Verify>) -> Self {
        self.opaque.push(verifier);
        self
    }

    /// The issuers. The aliases of the others are reserved at the primary one
    /// ([`JwtConfig::reserved_aliases`]), besides those that it has reserved.
    ///
    /// # Errors
    ///
    /// [`IssuersError`] names the issuer that cannot be beside the others.
    pub fn build(self) -> Result<Issuers, IssuersError> {
        let mut primary = None;
        for (n, config) in self.configs.iter().enumerate() {
            let before = self.configs.iter().take(n);
            let mut before = before.filter(|other| other.meets(config));
            if before.next().is_some() {
                return Err(IssuersError::Repeated(config.name().into()));
            }
            if config.is_primary() && primary.replace(n).is_some() {
                return Err(IssuersError::SecondPrimary(config.name().into()));
            }
        }
        let others = self.configs.iter().filter(|config| !config.is_primary());
        let others: Vec<Box<str>> = others.map(|config| config.short_name().into()).collect();
        let signed = self.configs.into_iter().map(|config| {
            let issuer: Box<str> = config.name().into();
            let config = config
                .verdicts(self.verdicts.clone())
                .reserve(others.iter().cloned());
            match JwtVerifier::discover(config, Arc::clone(&self.client)) {
                Ok(verifier) => Ok((issuer, verifier)),
                Err(source) => Err(IssuersError::Config { issuer, source }),
            }
        });
        Ok(Issuers(Arc::new(Inner {
            signed: signed.collect::<Result<_, _>>()?,
            verdicts: self.verdicts,
            prefixed: self.prefixed,
            opaque: self.opaque,
            era: Era::new(),
        })))
    }
}

impl fmt::Debug for IssuersBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuersBuilder")
            .field("issuers", &self.configs)
            .finish_non_exhaustive()
    }
}
