use serde_json::Value;

use crate::{Reason, jwt::SignedToken};

/// What a logout token ends at its provider.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum LogoutOf {
    Session(Box<str>),
    Subject(Box<str>),
}

/// The event that makes a security event token a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Holds a signed token against the rules of OpenID Connect Back-Channel Logout 1.0 section 2.6 that
/// are particular to logout tokens. Gives what it ends, and its `jti`.
pub(super) fn check(token: &SignedToken) -> Result<(LogoutOf, &str), Reason> {
    // Section 2.4: an explicit type is recommended, not required; `JWT` names none.
    if !matches!(token.kind().as_deref(), None | Some("jwt" | "logout+jwt")) {
        return Err(Reason::Type);
    }
    let event = token.find("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err(Reason::Type);
    }
    // An ID token must never pass for one.
    if token.find("nonce").is_some() {
        return Err(Reason::Type);
    }
    if token.find("iat").is_none() {
        return Err(Reason::Claim);
    }
    let id = token.text("jti").filter(|id| !id.is_empty());
    let id = id.ok_or(Reason::Claim)?;
    // One with both is about the session: others of the person go on.
    let what = match (token.text("sid"), token.text("sub")) {
        (Some(session_id), _) if !session_id.is_empty() => LogoutOf::Session(session_id.into()),
        (None, Some(subject)) => LogoutOf::Subject(subject.into()),
        _ => return Err(Reason::Claim),
    };
    Ok((what, id))
}
