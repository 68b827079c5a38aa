use std::sync::Arc;

#[cfg(feature = "opaque")]
use serde_json::Map;
use serde_json::Value;

use super::{
    claims::{Claims, strings},
    config::JwtConfig,
};
use crate::{Identity, Reason};

/// Who an issuer says an opaque token is of (RFC 7662).
#[cfg(feature = "opaque")]
pub(crate) fn introspected(
    json: &str,
    config: &JwtConfig,
    now: std::time::SystemTime,
) -> Result<Identity, Reason> {
    let claims = Claims::parse_introspection(json, config, now)?;
    identify(&claims, config, json.to_owned())
}

/// Makes an identity of claims that hold and whose signature was verified.
pub(super) fn identify(
    claims: &Claims,
    config: &JwtConfig,
    json: String,
) -> Result<Identity, Reason> {
    let subject = claims.text("sub").ok_or(Reason::Subject)?;
    let mut identity = Identity::builder(Arc::clone(&config.issuer), subject)
        .provider(Arc::clone(&config.alias))
        .groups(listed(claims.find("groups"))?)
        .roles(roles(claims, config)?)
        .scopes(scopes(claims)?);
    if let Some(expires_at) = claims.expires_at() {
        identity = identity.expires_at(expires_at);
    }
    if let Some(user_id) = user_id(subject, config)? {
        identity = identity.user_id(user_id);
    }
    if let Some(email) = claims.text("email") {
        identity = identity.email(email, claims.is_true("email_verified"));
    }
    if let Some(name) = claims.text("name") {
        identity = identity.name(name);
    }
    if let Some(picture) = claims.text("picture") {
        identity = identity.picture(picture);
    }
    if let Some(session_id) = claims.text("sid") {
        identity = identity.session_id(session_id);
    }
    Ok(identity.claims(json).build())
}

/// The id here of somebody at the issuer, where it is not the subject itself.
fn user_id(subject: &str, config: &JwtConfig) -> Result<Option<String>, Reason> {
    if !config.primary {
        Ok(Some(format!("{}|{subject}", config.alias)))
    } else if is_reserved(subject, config) {
        Err(Reason::Subject)
    } else {
        Ok(None)
    }
}

/// Makes an identity of what a profile says in place of claims.
#[cfg(feature = "opaque")]
pub(crate) fn identify_profile(
    config: &JwtConfig,
    members: Map<String, Value>,
) -> Result<Identity, Reason> {
    let json = serde_json::to_string(&members).map_err(|_| Reason::Claim)?;
    identify(&Claims::of_profile(members)?, config, json)
}

fn is_reserved(subject: &str, config: &JwtConfig) -> bool {
    let reserved = &config.reserved_aliases;
    subject
        .split_once('|')
        .is_some_and(|(alias, _)| reserved.iter().any(|one| &**one == alias))
}

fn roles<'a>(claims: &Claims, config: &'a JwtConfig) -> Result<Vec<&'a str>, Reason> {
    let held = listed(claims.find(&config.roles_claim))?;
    let holds_any = |values: &[Box<str>]| values.iter().any(|value| held.contains(&&**value));
    Ok(config
        .roles
        .iter()
        .filter(|(_, values)| holds_any(values))
        .map(|(role, _)| &**role)
        .collect())
}

/// `scope` (RFC 9068 section 2.2.3), or `scp` where an issuer calls it so.
fn scopes(claims: &Claims) -> Result<Vec<&str>, Reason> {
    let listed = listed(claims.find("scope").or_else(|| claims.find("scp")))?;
    Ok(listed
        .into_iter()
        .flat_map(|scopes| scopes.split(' '))
        .filter(|scope| !scope.is_empty())
        .collect())
}

fn listed(claim: Option<&Value>) -> Result<Vec<&str>, Reason> {
    match claim {
        None => Ok(Vec::new()),
        Some(value) => strings(value).ok_or(Reason::Claim),
    }
}
