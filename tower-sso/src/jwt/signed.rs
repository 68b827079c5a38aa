use std::{fmt, sync::Arc, time::SystemTime};

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    algorithm::Algorithm,
    claims::{Claims, strings},
    compact::{Compact, without_application},
    config::{ConfigError, JwtConfig},
    identity::identify,
    key_set::KeySet,
    remote::{Refresh, Remote, Standing},
};
use crate::{HttpClient, Identity, Reason, VerifyError, token::MAX_LENGTH, verdicts::Era};

/// Verifies the ID tokens and logout tokens of one issuer for one client, which [`JwtVerifier`] refuses
/// on purpose.
///
/// Signature, issuer, audience and times are held against the same rules as those of access tokens; what is
/// particular to a kind is left to whoever asks. Nothing is remembered.
///
/// [`JwtVerifier`]: super::JwtVerifier
#[derive(Clone, Debug)]
pub(crate) struct SignedTokens(Arc<Inner>);

/// A token whose signature and common claims hold.
pub(crate) struct SignedToken {
    claims: Claims,
    issuer: Arc<str>,
    algorithm: Algorithm,
    kind: Option<String>,
}

/// The tenants of an issuer that has one `iss` for each.
#[derive(Clone, Debug)]
pub(crate) struct Tenants {
    /// The `iss`, with [`TENANT`](Self::TENANT) in place of the id that `tid` has. The discovery document
    /// calls the issuer so.
    pub(crate) template: Box<str>,
    /// Whose tokens count; `None` for all.
    pub(crate) allowed: Option<Vec<Box<str>>>,
}

#[derive(Debug)]
struct Inner {
    config: JwtConfig,
    tenants: Option<Tenants>,
    remote: Arc<Remote>,
}

/// Why there is no decision yet.
enum Setback {
    Refuse(VerifyError),
    Wait(Refresh),
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Round {
    First,
    Last,
}

/// Claims that say something about the token, not the person: userinfo cannot bring them.
const PROTOCOL: [&str; 19] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "azp",
    "nonce",
    "auth_time",
    "acr",
    "amr",
    "at_hash",
    "c_hash",
    "sid",
    "tid",
    "events",
    "client_id",
    "cnf",
];

// === impl SignedTokens ===

impl SignedTokens {
    /// Verifies with the keys the issuer publishes. The audience of the configuration is the client's id.
    ///
    /// # Errors
    ///
    /// As [`JwtVerifier::discover`](super::JwtVerifier::discover).
    pub(crate) fn new(
        config: JwtConfig,
        tenants: Option<Tenants>,
        client: Arc<dyn HttpClient>,
    ) -> Result<Self, ConfigError> {
        config.check_asymmetric()?;
        let documented = tenants.as_ref().map(|tenants| &*tenants.template);
        let remote = Remote::of_document(&config, documented, client, Era::new())?;
        Ok(Self(Arc::new(Inner {
            config,
            tenants,
            remote: Arc::new(remote),
        })))
    }

    /// Verifies a token.
    ///
    /// # Errors
    ///
    /// [`VerifyError`], as from [`Verify`](crate::Verify).
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub(crate) async fn verify(&self, token: &str) -> Result<SignedToken, VerifyError> {
        let refresh = match self.0.decide(token, Round::First) {
            Ok(token) => return Ok(token),
            Err(Setback::Refuse(error)) => return Err(error),
            Err(Setback::Wait(refresh)) => refresh,
        };
        refresh.ended().await;
        self.0
            .decide(token, Round::Last)
            .map_err(|setback| match setback {
                Setback::Refuse(error) => error,
                // The last round never waits.
                Setback::Wait(_) => VerifyError::Unavailable,
            })
    }

    /// Whether tokens of this `iss` are verified here.
    pub(crate) fn is_issuer(&self, issuer: &str) -> bool {
        match &self.0.tenants {
            None => issuer == &*self.0.config.issuer,
            Some(tenants) => tenants.find(issuer).is_some(),
        }
    }

    /// Makes an identity of a token, by the rules that [`JwtVerifier`](super::JwtVerifier) makes one by.
    pub(crate) fn identify(&self, token: &SignedToken) -> Result<Identity, Reason> {
        let json = serde_json::to_string(token.claims.members()).map_err(|_| Reason::Claim)?;
        if token.issuer == self.0.config.issuer {
            return identify(&token.claims, &self.0.config, json);
        }
        let mut config = self.0.config.clone();
        config.issuer = Arc::clone(&token.issuer);
        identify(&token.claims, &config, json)
    }

    /// Whether roles depend on a claim that the token does not have.
    pub(crate) fn lacks_roles(&self, token: &SignedToken) -> bool {
        let config = &self.0.config;
        !config.roles.is_empty() && token.claims.find(&config.roles_claim).is_none()
    }
}

// === impl Inner ===

impl Inner {
    fn decide(&self, token: &str, round: Round) -> Result<SignedToken, Setback> {
        if token.len() > MAX_LENGTH {
            return Err(Reason::TooLong.into());
        }
        let now = self.config.clock.now();
        let compact = Compact::parse(token)?;
        let header = &compact.header;
        if !self.config.algorithms.contains(&header.algorithm) {
            return Err(Reason::Algorithm.into());
        }
        let (issuer, claims) = self.claims(&compact.payload, now)?;

        let keys = self.keys(round)?;
        let key = match keys.find(header.key_id.as_deref(), header.algorithm) {
            Ok(key) => key,
            Err(Reason::UnknownKey) => {
                return Err(match self.refresh(round) {
                    Some(refresh) => Setback::Wait(refresh),
                    None => Reason::UnknownKey.into(),
                });
            }
            Err(reason) => return Err(reason.into()),
        };
        // A key of one tenant signs nothing for another.
        if let (Some(tenants), Some(owner)) = (&self.tenants, key.issuer())
            && owner != &*tenants.template
            && owner != &*issuer
        {
            return Err(Reason::UnknownKey.into());
        }
        if !key.verifies(header.algorithm, compact.signed, &compact.signature) {
            return Err(Reason::Signature.into());
        }
        Ok(SignedToken {
            claims,
            issuer,
            algorithm: compact.header.algorithm,
            kind: compact.header.kind,
        })
    }

    fn claims(&self, json: &str, now: SystemTime) -> Result<(Arc<str>, Claims), Reason> {
        let claims = Claims::parse_signed(json, &self.config, now)?;
        let issuer = claims.text("iss").ok_or(Reason::Claim)?;
        let issuer = match &self.tenants {
            None if issuer == &*self.config.issuer => Arc::clone(&self.config.issuer),
            None => return Err(Reason::Issuer),
            Some(tenants) => {
                let id = claims.text("tid").ok_or(Reason::Claim)?;
                if tenants.find(issuer) != Some(id) {
                    return Err(Reason::Issuer);
                }
                issuer.into()
            }
        };
        Ok((issuer, claims))
    }

    fn keys(&self, round: Round) -> Result<Arc<KeySet>, Setback> {
        let old = match self.remote.standing() {
            Standing::Current(keys) => return Ok(keys),
            Standing::Expired(keys) => Some(keys),
            Standing::Missing => None,
        };
        match self.refresh(round) {
            Some(refresh) => Err(Setback::Wait(refresh)),
            None => old.ok_or(Setback::Refuse(VerifyError::Unavailable)),
        }
    }

    fn refresh(&self, round: Round) -> Option<Refresh> {
        match round {
            Round::First => self.remote.refresh(),
            Round::Last => None,
        }
    }
}

// === impl Setback ===

impl From<Reason> for Setback {
    fn from(reason: Reason) -> Self {
        Self::Refuse(reason.into())
    }
}

// === impl Tenants ===

impl Tenants {
    /// What stands in the template in place of the id.
    const TENANT: &'static str = "{tenantid}";

    /// The id of the tenant an `iss` is of, if it is one whose tokens count.
    fn find<'a>(&self, issuer: &'a str) -> Option<&'a str> {
        let (before, after) = self.template.split_once(Self::TENANT)?;
        let id = issuer.strip_prefix(before)?.strip_suffix(after)?;
        let is_id = !id.is_empty()
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        let is_allowed = self
            .allowed
            .as_ref()
            .is_none_or(|allowed| allowed.iter().any(|own| &**own == id));
        Some(id).filter(|_| is_id && is_allowed)
    }
}

// === impl SignedToken ===

impl SignedToken {
    /// A claim that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.claims.text(name)
    }

    /// A claim.
    pub(crate) fn find(&self, name: &str) -> Option<&Value> {
        self.claims.members().get(name)
    }

    /// When it ends.
    pub(crate) fn expires_at(&self) -> SystemTime {
        // A signed token without an end is refused.
        self.claims.expires_at().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// How many audiences it has.
    pub(crate) fn audiences(&self) -> usize {
        let audience = self.find("aud");
        audience.and_then(strings).map_or(0, |named| named.len())
    }

    /// The `typ` of its header, without `application/` and in lower case.
    pub(crate) fn kind(&self) -> Option<String> {
        let kind = self.kind.as_deref().map(without_application);
        kind.map(str::to_ascii_lowercase)
    }

    /// The left half of the hash of a text by the algorithm of the token's signature (OpenID Connect Core
    /// section 3.1.3.6), as `at_hash` has it.
    pub(crate) fn half_hash(&self, text: &str) -> String {
        let algorithm = match self.algorithm {
            Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 | Algorithm::HS256 => &SHA256,
            Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 | Algorithm::HS384 => &SHA384,
            // Ed25519 hashes with SHA-512 itself.
            Algorithm::RS512 | Algorithm::PS512 | Algorithm::HS512 | Algorithm::EdDSA => &SHA512,
        };
        let hash = digest(algorithm, text.as_bytes());
        let half = hash.as_ref().get(..hash.as_ref().len() / 2);
        URL_SAFE_NO_PAD.encode(half.unwrap_or_default())
    }

    /// Adds what an answer of the userinfo endpoint says about the person and the token does not. What
    /// the token says stays.
    ///
    /// # Errors
    ///
    /// [`Reason::Subject`] if the answer is about somebody else, [`Reason::Claim`] if a registered claim
    /// has the wrong type.
    pub(crate) fn add_userinfo(&mut self, userinfo: Map<String, Value>) -> Result<(), Reason> {
        let subject = userinfo.get("sub").and_then(Value::as_str);
        if subject.is_none() || subject != self.text("sub") {
            return Err(Reason::Subject);
        }
        // An address is verified by whoever says that it is the person's.
        let has_email = self.text("email").is_some();
        let is_taken = |name: &str| {
            PROTOCOL.contains(&name) || (has_email && matches!(name, "email" | "email_verified"))
        };
        if !has_email {
            self.claims.remove("email_verified");
        }
        let told = userinfo.into_iter().filter(|(name, _)| !is_taken(name));
        self.claims.fill(told)
    }
}

/// `Debug` shows no personal data.
impl fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedToken")
            .field("issuer", &self.issuer)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
