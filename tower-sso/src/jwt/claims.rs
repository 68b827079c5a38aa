use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{config::JwtConfig, json::parse_object};
use crate::Reason;

/// The claims of a token, as far as they can be judged without its signature.
#[derive(Debug)]
pub(super) struct Claims {
    members: Map<String, Value>,
    expires_at: SystemTime,
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
    /// Reads the claims and holds them against the rules.
    pub(super) fn parse(json: &str, config: &JwtConfig, now: SystemTime) -> Result<Self, Reason> {
        let members = parse_object(json).ok_or(Reason::Malformed)?;
        for name in TEXT {
            text(&members, name)?;
        }
        for name in TIME {
            time(&members, name)?;
        }
        if members
            .get("email_verified")
            .is_some_and(|flag| !flag.is_boolean())
        {
            return Err(Reason::Claim);
        }

        check_kind(&members, config)?;
        if text(&members, "iss")?.ok_or(Reason::Claim)? != &*config.issuer {
            return Err(Reason::Issuer);
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

    pub(super) const fn expires_at(&self) -> SystemTime {
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

fn check_kind(members: &Map<String, Value>, config: &JwtConfig) -> Result<(), Reason> {
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
) -> Result<SystemTime, Reason> {
    let expires_at = time(members, "exp")?.ok_or(Reason::Claim)?;
    let is_later = |instant: SystemTime| {
        instant
            .duration_since(now)
            .is_ok_and(|ahead| ahead > config.leeway)
    };
    let is_over = now
        .duration_since(expires_at)
        .is_ok_and(|since| since >= config.leeway);
    if is_over {
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
