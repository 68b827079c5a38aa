use std::{fmt, sync::Arc, time::Duration};

use thiserror::Error;

use super::{
    algorithm::Algorithm,
    clock::{Clock, SystemClock},
};
use crate::Verdicts;

/// How tokens of one issuer are verified.
///
/// Every default is as strict as the tokens of common issuers allow. Two settings make it stricter
/// where yours allows it: [`required_type`](Self::required_type), since without it an ID token for
/// the same audience passes unless a claim gives it away, and
/// [`authorized_parties`](Self::authorized_parties), since without it the tokens of all clients pass.
///
/// # Examples
///
/// ```
/// use tower_sso::jwt::{Algorithm, JwtConfig};
///
/// let config = JwtConfig::new("https://login.example.com", "openclaw")
///     .alias("corp")
///     .primary(true)
///     .algorithms([Algorithm::ES256])
///     .required_type("at+jwt")
///     .roles_claim("groups")
///     .role("admin", ["openclaw-admins"]);
/// ```
#[derive(Clone)]
#[must_use = "a configuration does nothing until a verifier takes it"]
pub struct JwtConfig {
    pub(super) issuer: Arc<str>,
    pub(super) audience: Box<str>,
    pub(super) alias: Arc<str>,
    pub(super) primary: bool,
    pub(super) reserved_aliases: Vec<Box<str>>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) leeway: Duration,
    pub(super) required_type: Option<Box<str>>,
    pub(super) rfc9068: bool,
    pub(super) authorized_parties: Vec<Box<str>>,
    pub(super) roles_claim: Box<str>,
    pub(super) roles: Vec<(Box<str>, Vec<Box<str>>)>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cool_down: Duration,
    pub(super) key_ttl: Duration,
    pub(super) stale_for: Duration,
    pub(super) verdicts: Option<Verdicts>,
    pub(super) cache_capacity: usize,
}

/// A configuration no verifier can be made of.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The issuer is empty, or is to be discovered and is not an `https` address, or `http` one of
    /// the machine itself, without user, query and fragment.
    #[error("the issuer is not an address that keys can be discovered at")]
    Issuer,
    /// The audience is empty.
    #[error("the audience is empty")]
    Audience,
    /// The alias is empty, or has a `|` or a control character.
    #[error("the alias is empty or has a `|` or a control character")]
    Alias,
    /// No algorithm is allowed, or HMAC beside others.
    #[error("no algorithm is allowed, or HMAC is beside others")]
    Algorithms,
    /// The key cannot be read, or is too weak.
    #[error("the key cannot be read, or is too weak")]
    Key,
    /// No key serves any of the algorithms.
    #[error("no key serves any of the algorithms")]
    KeyMismatch,
}

// === impl JwtConfig ===

impl JwtConfig {
    /// Verifies tokens of this issuer for this audience, both compared byte for byte.
    pub fn new(issuer: &str, audience: &str) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            alias: issuer.into(),
            primary: false,
            reserved_aliases: Vec::new(),
            algorithms: Algorithm::DEFAULT.into(),
            leeway: Duration::from_secs(60),
            required_type: None,
            rfc9068: false,
            authorized_parties: Vec::new(),
            roles_claim: "groups".into(),
            roles: Vec::new(),
            clock: Arc::new(SystemClock),
            cool_down: Duration::from_secs(30),
            key_ttl: Duration::from_secs(600),
            stale_for: Duration::from_secs(24 * 3600),
            verdicts: None,
            cache_capacity: 10_000,
        }
    }

    /// Sets the short name of the issuer, [`Identity::provider`](crate::Identity::provider). Default:
    /// the issuer itself.
    pub fn alias(mut self, alias: &str) -> Self {
        self.alias = alias.into();
        self
    }

    /// Says whether the subjects of this issuer are user ids as they are. Default: no.
    ///
    /// Only one issuer may be primary. The user id of another one's subject is
    /// `<alias>|<subject>`, so that equal subjects of two issuers are two users.
    pub fn primary(mut self, primary: bool) -> Self {
        self.primary = primary;
        self
    }

    /// Names the aliases of the other issuers, for the primary one. Default: none.
    ///
    /// A subject of the primary issuer that begins with `<alias>|` would be taken for a user of the
    /// other one: it is refused.
    pub fn reserved_aliases(mut self, aliases: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.reserved_aliases = aliases.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the algorithms that are allowed. Default: RS256, PS256, ES256 and EdDSA.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Sets by how much clocks may differ. Default: 60 seconds.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Requires this `typ`, compared without case and without `application/`. Default: none.
    ///
    /// Requiring `at+jwt` (RFC 9068) keeps ID tokens out; set it where the issuer sends it. Then a
    /// claim `nonce` refuses a token too. The claims `at_hash` and `c_hash`, which only ID tokens
    /// have, always do.
    pub fn required_type(mut self, kind: &str) -> Self {
        self.required_type = Some(kind.into());
        self
    }

    /// Requires access tokens by the profile of RFC 9068: the type `at+jwt`, and the claims `client_id`,
    /// `iat` and `jti` besides those that are always required. Default: no.
    pub fn rfc9068(mut self) -> Self {
        self.rfc9068 = true;
        self.required_type("at+jwt")
    }

    /// Requires that the token was given to one of these clients: `azp`, or `client_id` without it.
    /// Default: any client.
    pub fn authorized_parties(mut self, clients: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        self.authorized_parties = clients.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the claim that roles are mapped from. Default: `groups`.
    ///
    /// The claim of this name, or else the place of this name with dots between the members, such
    /// as `realm_access.roles`. It holds a string or strings.
    pub fn roles_claim(mut self, claim: &str) -> Self {
        self.roles_claim = claim.into();
        self
    }

    /// Gives a role to whom the roles claim has one of these values. Without any, nobody has a role:
    /// an issuer cannot give what the configuration does not name.
    pub fn role(mut self, role: &str, values: impl IntoIterator<Item: Into<Box<str>>>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.roles.push((role.into(), values));
        self
    }

    /// Sets the clock for `exp`, `nbf` and `iat`. Default: the system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how long after a fetch of the keys an unknown `kid` starts none. Default: 30 seconds,
    /// as in panva/jose (`cooldownDuration`).
    ///
    /// As long as no keys were ever had, a failure is followed by a shorter pause that doubles from
    /// one second up to this.
    pub fn cool_down(mut self, pause: Duration) -> Self {
        self.cool_down = pause;
        self
    }

    /// Sets how long fetched keys count as current. Default: 10 minutes, as in panva/jose
    /// (`cacheMaxAge`).
    ///
    /// A key the issuer has withdrawn verifies nothing after this, if the issuer answers; a verdict
    /// that is remembered may outlive it by 60 seconds.
    pub fn key_ttl(mut self, ttl: Duration) -> Self {
        self.key_ttl = ttl;
        self
    }

    /// Sets how long after [`key_ttl`](Self::key_ttl) keys stay usable while the issuer gives no
    /// new ones. Default: 24 hours.
    pub fn stale_for(mut self, bound: Duration) -> Self {
        self.stale_for = bound;
        self
    }

    /// Remembers verified tokens there, together with those of other verifiers. Default: in a place of
    /// its own for [`cache_capacity`](Self::cache_capacity) tokens.
    pub fn verdicts(mut self, verdicts: Verdicts) -> Self {
        self.verdicts = Some(verdicts);
        self
    }

    /// Sets how many verified tokens are remembered; zero remembers none. Default: 10,000. Has no
    /// effect beside [`verdicts`](Self::verdicts).
    pub fn cache_capacity(mut self, tokens: usize) -> Self {
        self.cache_capacity = tokens;
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.issuer
    }

    #[cfg(feature = "opaque")]
    pub(crate) fn audience_name(&self) -> &str {
        &self.audience
    }

    pub(crate) fn short_name(&self) -> &str {
        &self.alias
    }

    pub(crate) const fn is_primary(&self) -> bool {
        self.primary
    }

    /// Whether both have one name or one alias.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.issuer == other.issuer || self.alias == other.alias
    }

    /// Reserves further aliases, if it is the primary one.
    pub(crate) fn reserve(mut self, aliases: impl IntoIterator<Item = Box<str>>) -> Self {
        if self.primary {
            self.reserved_aliases.extend(aliases);
        }
        self
    }

    pub(crate) fn now(&self) -> std::time::SystemTime {
        self.clock.now()
    }

    /// Checks what every verifier needs.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.issuer.is_empty() {
            return Err(ConfigError::Issuer);
        }
        if self.audience.is_empty() {
            return Err(ConfigError::Audience);
        }
        let breaks_user_id = |c: char| c == '|' || c.is_control();
        if self.alias.is_empty() || self.alias.contains(breaks_user_id) {
            return Err(ConfigError::Alias);
        }
        let hmac = self.algorithms.iter().filter(|alg| alg.is_hmac()).count();
        if self.algorithms.is_empty() || (hmac != 0 && hmac != self.algorithms.len()) {
            return Err(ConfigError::Algorithms);
        }
        Ok(())
    }

    /// Checks what a verifier with keys of an issuer needs: secrets are never in a published set.
    pub(super) fn check_asymmetric(&self) -> Result<(), ConfigError> {
        self.check()?;
        if self.algorithms.iter().any(|alg| alg.is_hmac()) {
            return Err(ConfigError::Algorithms);
        }
        Ok(())
    }
}

impl fmt::Debug for JwtConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtConfig")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("alias", &self.alias)
            .field("primary", &self.primary)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
