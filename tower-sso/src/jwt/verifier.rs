use std::{sync::Arc, time::SystemTime};

use super::{
    claims::Claims,
    compact::Compact,
    config::{ConfigError, JwtConfig},
    identity::identify,
    key::VerifyingKey,
    key_set::KeySet,
    remote::{Refresh, Remote, Standing},
    stats::{Counters, Stats},
};
use crate::{
    HttpClient, Identity, Reason, Verdicts, Verify, VerifyError, VerifyFuture,
    token::MAX_LENGTH,
    verdicts::{Era, TokenHash},
};

/// Verifies the JSON Web Tokens of one issuer. The [module](crate::jwt) says by which rules.
///
/// Cheap to clone; clones share keys, verdicts and counters.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::SystemTime};
/// use tower_sso::jwt::{ConfigError, JwtConfig, JwtVerifier};
/// use tower_sso::{HttpClient, SsoLayer};
///
/// fn sso(client: Arc<dyn HttpClient>) -> Result<SsoLayer, ConfigError> {
///     let config = JwtConfig::new("https://login.example.com", "openclaw").primary(true);
///     let verifier = JwtVerifier::discover(config, client)?;
///     Ok(SsoLayer::new(Arc::new(verifier)))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct JwtVerifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: JwtConfig,
    keys: Keys,
    verdicts: Verdicts,
    era: Era,
    counters: Counters,
}

#[derive(Debug)]
enum Keys {
    Static(Arc<KeySet>),
    Remote(Arc<Remote>),
}

/// Whether a decision may still wait for the issuer.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Round {
    First,
    Last,
}

/// What a token that does not verify at once gets.
enum Setback {
    Refuse(VerifyError),
    Wait(Refresh),
}

// === impl JwtVerifier ===

impl JwtVerifier {
    /// Verifies with the keys the issuer publishes.
    ///
    /// Nothing is fetched before a token needs it. Fetches run as tasks of the Tokio runtime that
    /// verifies, which needs its timer; outside of a runtime nothing is fetched and tokens are
    /// [`Unavailable`](VerifyError::Unavailable).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration contradicts itself, allows HMAC, or has an issuer that is
    /// neither an `https` address nor an `http` one of this machine.
    pub fn discover(config: JwtConfig, client: Arc<dyn HttpClient>) -> Result<Self, ConfigError> {
        config.check_asymmetric()?;
        let era = Era::new();
        let remote = Remote::new(&config, client, era.clone())?;
        Ok(Self::new(config, Keys::Remote(Arc::new(remote)), era))
    }

    /// Verifies with one key, whatever `kid` a token has.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration contradicts itself or no allowed algorithm takes the key:
    /// for a secret the HMAC algorithms must be named by [`JwtConfig::algorithms`].
    pub fn with_key(config: JwtConfig, key: VerifyingKey) -> Result<Self, ConfigError> {
        config.check()?;
        Self::with_set(config, KeySet::single(key))
    }

    /// Verifies with a JWK set (RFC 7517 section 5), given as its JSON text.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration contradicts itself or allows HMAC, or if the set has no
    /// usable key for the allowed algorithms.
    pub fn with_jwk_set(config: JwtConfig, json: &str) -> Result<Self, ConfigError> {
        config.check_asymmetric()?;
        let keys = KeySet::parse(json.as_bytes()).ok_or(ConfigError::Key)?;
        Self::with_set(config, keys)
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (refreshes, failed) = match &self.0.keys {
            Keys::Static(_) => (0, 0),
            Keys::Remote(remote) => remote.refreshes(),
        };
        self.0.counters.snapshot(refreshes, failed)
    }

    /// Whether a verdict of this era is this verifier's.
    pub(crate) fn is_of(&self, era: &Era) -> bool {
        era.is(&self.0.era)
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.0.config.now()
    }

    fn with_set(config: JwtConfig, keys: KeySet) -> Result<Self, ConfigError> {
        if !keys.serves_any(&config.algorithms) {
            return Err(ConfigError::KeyMismatch);
        }
        Ok(Self::new(config, Keys::Static(Arc::new(keys)), Era::new()))
    }

    fn new(config: JwtConfig, keys: Keys, era: Era) -> Self {
        let verdicts = match &config.verdicts {
            Some(shared) => shared.clone(),
            None => Verdicts::new(config.cache_capacity),
        };
        Self(Arc::new(Inner {
            verdicts,
            config,
            keys,
            era,
            counters: Counters::default(),
        }))
    }
}

impl Verify for JwtVerifier {
    fn verify(&self, token: &str) -> VerifyFuture {
        match self.0.decide(token, Round::First) {
            Ok(identity) => VerifyFuture::ready(Ok(identity)),
            Err(Setback::Refuse(error)) => VerifyFuture::ready(self.0.refuse(error)),
            Err(Setback::Wait(refresh)) => {
                let inner = Arc::clone(&self.0);
                let token = token.to_owned();
                VerifyFuture::boxed(async move {
                    refresh.ended().await;
                    match inner.decide(&token, Round::Last) {
                        Ok(identity) => Ok(identity),
                        Err(Setback::Refuse(error)) => inner.refuse(error),
                        // The last round never waits.
                        Err(Setback::Wait(_)) => inner.refuse(VerifyError::Unavailable),
                    }
                })
            }
        }
    }
}

// === impl Inner ===

impl Inner {
    fn decide(&self, token: &str, round: Round) -> Result<Arc<Identity>, Setback> {
        if token.len() > MAX_LENGTH {
            return Err(Reason::TooLong.into());
        }
        let now = self.config.clock.now();
        let hash = TokenHash::new(token);
        if let Some(identity) = self.verdicts.recall(&hash, now, |era| era.is(&self.era)) {
            self.counters.count_remembered();
            return Ok(identity);
        }
        // Before the keys are looked at: if they change, the verdict must not outlive them.
        let stand = self.verdicts.stand(&self.era);

        // Everything that needs no key comes first: only a token that could be the issuer's makes
        // anybody ask the issuer.
        let compact = Compact::parse(token)?;
        let header = &compact.header;
        header.check(&self.config)?;
        let claims = Claims::parse(&compact.payload, &self.config, now)?;

        self.check_signature(&compact, round)?;
        let identity = Arc::new(identify(&claims, &self.config, compact.payload)?);
        self.verdicts.remember(hash, &identity, &stand, now);
        self.counters.count_verified();
        Ok(identity)
    }

    fn check_signature(&self, compact: &Compact<'_>, round: Round) -> Result<(), Setback> {
        let header = &compact.header;
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
        if key.verifies(header.algorithm, compact.signed, &compact.signature) {
            Ok(())
        } else {
            Err(Reason::Signature.into())
        }
    }

    fn keys(&self, round: Round) -> Result<Arc<KeySet>, Setback> {
        let standing = match &self.keys {
            Keys::Static(keys) => return Ok(Arc::clone(keys)),
            Keys::Remote(remote) => remote.standing(),
        };
        let old = match standing {
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
        match (&self.keys, round) {
            (Keys::Remote(remote), Round::First) => remote.refresh(),
            _ => None,
        }
    }

    fn refuse(&self, error: VerifyError) -> Result<Arc<Identity>, VerifyError> {
        self.counters.count_error(error);
        Err(error)
    }
}

// === impl Setback ===

impl From<Reason> for Setback {
    fn from(reason: Reason) -> Self {
        Self::Refuse(reason.into())
    }
}
