use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{config::JwtConfig, json::parse_object};
use crate::Reason;

/// The claims of a token, as far as they can be judged without its signature.
#[derive(Debug)]
pub(super) struct Claims {
    members: Map<String, Value>,
    expires_at: Option<SystemTime>,
}

/// Claims that are text: RFC 7519 section 4.1, RFC 9068 section 2.2, and OpenID Connect Core
/// sections 2, 3.3.2.11 and 5.1 as far as they are read here.
const TEXT: [&str; 14] = [
    "iss",
    "sub",
    "jti",
    "azp",
    "client_id",
    "scope",
    "sid",
    "acr",
    "nonce",
    "at_hash",
    "c_hash",
    "name",
    "picture",
    "email",
];

/// Claims that are times.
const TIME: [&str; 4] = ["exp", "nbf", "iat", "auth_time"];

/// Claims only an ID token has (OpenID Connect Core sections 3.1.3.6 and 3.3.2.11).
const ID_TOKEN: [&str; 2] = ["at_hash", "c_hash"];

/// Defined for ID tokens (OpenID Connect Core section 2), but some issuers, such as Keycloak before
/// version 24, put it into access tokens too.
const NONCE: &str = "nonce";

// === impl Claims ===

impl Claims {
    /// Reads the claims of an access token and holds them against the rules.
    pub(super) fn parse(json: &str, config: &JwtConfig, now: SystemTime) -> Result<Self, Reason> {
        let members = read(json)?;
        check_kind(&members, config)?;
        check_issuer(&members, config)?;
        check_audience(&members, config)?;
        check_authorized_party(&members, config)?;
        check_subject(text(&members, "sub")?.ok_or(Reason::Claim)?)?;
        let expires_at = check_time(&members, config, now)?.ok_or(Reason::Claim)?;
        Ok(Self {
            members,
            expires_at: Some(expires_at),
        })
    }

    /// Reads what an issuer says of an opaque token (RFC 7662 section 2.2). It need not say when the
    /// token ends, nor repeat its own name.
    #[cfg(feature = "opaque")]
    pub(super) fn parse_introspection(
        json: &str,
        config: &JwtConfig,
        now: SystemTime,
    ) -> Result<Self, Reason> {
        let members = read(json)?;
        match members.get("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err(Reason::Unknown),
            _ => return Err(Reason::Claim),
        }
        check_possession(&members)?;
        for name in ["token_type", "token_use", "typ"] {
            if text(&members, name)?.is_some_and(|kind| !is_access_token(kind)) {
                return Err(Reason::Type);
            }
        }
        if members.contains_key("iss") {
            check_issuer(&members, config)?;
        }
        check_audience(&members, config)?;
        check_authorized_party(&members, config)?;
        check_subject(text(&members, "sub")?.ok_or(Reason::Claim)?)?;
        let expires_at = check_time(&members, config, now)?;
        Ok(Self {
            members,
            expires_at,
        })
    }

    /// Reads the claims of a signed token of any kind and holds them against what is common to all
    /// kinds. Issuer and kind are left to whoever asks.
    #[cfg(feature = "login")]
    pub(super) fn parse_signed(
        json: &str,
        config: &JwtConfig,
        now: SystemTime,
    ) -> Result<Self, Reason> {
        let members = parse_object(json).ok_or(Reason::Malformed)?;
        check_types(&members)?;
        check_audience(&members, config)?;
        if let Some(subject) = text(&members, "sub")? {
            check_subject(subject)?;
        }
        let expires_at = check_time(&members, config, now)?.ok_or(Reason::Claim)?;
        Ok(Self {
            members,
            expires_at: Some(expires_at),
        })
    }

    /// Takes what a profile says for claims. They end with whatever they are used for.
    #[cfg(feature = "opaque")]
    pub(super) fn of_profile(members: Map<String, Value>) -> Result<Self, Reason> {
        check_types(&members)?;
        check_subject(text(&members, "sub")?.ok_or(Reason::Claim)?)?;
        Ok(Self {
            members,
            expires_at: None,
        })
    }

    #[cfg(feature = "login")]
    pub(super) const fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// Adds claims, of which those that are there already stay as they are.
    #[cfg(feature = "login")]
    pub(super) fn fill(
        &mut self,
        claims: impl Iterator<Item = (String, Value)>,
    ) -> Result<(), Reason> {
        for (name, value) in claims {
            self.members.entry(name).or_insert(value);
        }
        check_types(&self.members)
    }

    #[cfg(feature = "login")]
    pub(super) fn remove(&mut self, name: &str) {
        self.members.remove(name);
    }

    pub(super) const fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str)
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.members.get(name) == Some(&Value::Bool(true))
    }

    /// The claim of this name, or else the one at this path.
    pub(super) fn find(&self, path: &str) -> Option<&Value> {
        self.members.get(path).or_else(|| {
            let mut names = path.split('.');
            let first = self.members.get(names.next()?)?;
            names.try_fold(first, |value, name| value.get(name))
        })
    }
}

fn read(json: &str) -> Result<Map<String, Value>, Reason> {
    let members = parse_object(json).ok_or(Reason::Malformed)?;
    check_types(&members)?;
    Ok(members)
}

fn check_issuer(members: &Map<String, Value>, config: &JwtConfig) -> Result<(), Reason> {
    if text(members, "iss")?.ok_or(Reason::Claim)? == &*config.issuer {
        Ok(())
    } else {
        Err(Reason::Issuer)
    }
}

/// A registered claim of the wrong type refuses a token.
fn check_types(members: &Map<String, Value>) -> Result<(), Reason> {
    for name in TEXT {
        text(members, name)?;
    }
    for name in TIME {
        time(members, name)?;
    }
    let flag = members.get("email_verified");
    if flag.is_some_and(|flag| !flag.is_boolean()) {
        return Err(Reason::Claim);
    }
    Ok(())
}

/// A token that is bound to a key or certificate of its holder (RFC 7800; RFC 9449 section 6, RFC 8705
/// section 3) is worth nothing without them, and nobody here checks them.
fn check_possession(members: &Map<String, Value>) -> Result<(), Reason> {
    if members.contains_key("cnf") {
        Err(Reason::Bound)
    } else {
        Ok(())
    }
}

/// What issuers call an access token in an answer about it: RFC 7662 section 2.2 (`token_type`), ORY Hydra
/// and Amazon Cognito (`token_use`), Keycloak (`typ`). A refresh token may be active, too.
#[cfg(feature = "opaque")]
fn is_access_token(kind: &str) -> bool {
    let known = ["access", "access_token", "at+jwt", "bearer", "jwt"];
    known.iter().any(|known| kind.eq_ignore_ascii_case(known))
}

fn check_kind(members: &Map<String, Value>, config: &JwtConfig) -> Result<(), Reason> {
    check_possession(members)?;
    if config.rfc9068 {
        // RFC 9068 section 2.2.
        for name in ["client_id", "jti"] {
            text(members, name)?.ok_or(Reason::Claim)?;
        }
        time(members, "iat")?.ok_or(Reason::Claim)?;
    }
    // `events` makes a security event token, such as a logout token (RFC 8417 section 2.2, OpenID
    // Connect Back-Channel Logout section 2.4).
    let is_event = members.contains_key("events");
    let is_id_token = ID_TOKEN.iter().any(|name| members.contains_key(*name));
    let is_like_one = config.required_type.is_some() && members.contains_key(NONCE);
    if is_event || is_id_token || is_like_one {
        return Err(Reason::Type);
    }
    Ok(())
}

fn check_audience(members: &Map<String, Value>, config: &JwtConfig) -> Result<(), Reason> {
    let audience = members.get("aud").ok_or(Reason::Claim)?;
    let audiences = strings(audience).ok_or(Reason::Claim)?;
    if audiences.contains(&&*config.audience) {
        Ok(())
    } else {
        Err(Reason::Audience)
    }
}

fn check_authorized_party(members: &Map<String, Value>, config: &JwtConfig) -> Result<(), Reason> {
    let allowed = &config.authorized_parties;
    if allowed.is_empty() {
        return Ok(());
    }
    let party = match text(members, "azp")? {
        Some(party) => Some(party),
        None => text(members, "client_id")?,
    };
    if party.is_some_and(|party| allowed.iter().any(|one| &**one == party)) {
        Ok(())
    } else {
        Err(Reason::AuthorizedParty)
    }
}

/// The length is that of OpenID Connect Core section 2, in bytes. The characters are those two names
/// cannot be told apart by, or that change how the text around them is read.
fn check_subject(subject: &str) -> Result<(), Reason> {
    let bounded = (1..=255).contains(&subject.len());
    if bounded && subject.trim() == subject && !subject.contains(is_deceptive) {
        Ok(())
    } else {
        Err(Reason::Subject)
    }
}

/// Control characters, line separators, and characters that show nothing or turn the direction.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// RFC 7519 sections 4.1.4 to 4.1.6.
fn check_time(
    members: &Map<String, Value>,
    config: &JwtConfig,
    now: SystemTime,
) -> Result<Option<SystemTime>, Reason> {
    let expires_at = time(members, "exp")?;
    let is_later = |instant: SystemTime| {
        instant
            .duration_since(now)
            .is_ok_and(|ahead| ahead > config.leeway)
    };
    let is_over = |expires_at: SystemTime| {
        now.duration_since(expires_at)
            .is_ok_and(|since| since >= config.leeway)
    };
    if expires_at.is_some_and(is_over) {
        return Err(Reason::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(members, name)?.is_some_and(is_later) {
            return Err(Reason::NotYetValid);
        }
    }
    Ok(expires_at)
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Reason> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Reason::Claim),
    }
}

/// The last second of the year 9999, the end of RFC 3339's range.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// A `NumericDate` (RFC 7519 section 2): seconds since 1970, with a fraction or not.
fn time(members: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, Reason> {
    let Some(value) = members.get(name) else {
        return Ok(None);
    };
    // Seconds of this range and a good part of their fraction are exact in an `f64`.
    let seconds = value
        .as_f64()
        .filter(|seconds| (0.0..=LAST_SECOND).contains(seconds))
        .ok_or(Reason::Claim)?;
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs_f64(seconds))
        .map(Some)
        .ok_or(Reason::Claim)
}

/// A string, or an array of nothing but strings.
pub(super) fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(one) => Some(vec![one]),
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        _ => None,
    }
}
