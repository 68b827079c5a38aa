//! Gateway passwords: what `/api/openclaw/credentials` hands out for clients that can only put a secret into `connect`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tower_sso::{CredentialKind, Identity, Reason, Verify, VerifyError, VerifyFuture};

use crate::clock;
use crate::config::Secret;
use crate::sign_in::SignIn;
use crate::telemetry::Verifications;

/// How every password begins.
const PREFIX: &str = "ocg-pw-";

/// How long a password opens sockets. A socket then lives as long as the token that the password was asked for with.
const LIFETIME: Duration = Duration::from_secs(300);

/// Issuer of the identity that a password stands for.
pub const ISSUER: &str = "urn:gateway:password";

/// Makes and verifies passwords: a statement of ours with a key that only this store has, so that nothing needs to be
/// kept.
#[derive(Clone)]
pub struct Passwords {
    /// The first one signs, all of them verify.
    keys: Arc<[hmac::Key]>,
}

/// A password and when it stops to open sockets.
#[derive(Debug)]
#[non_exhaustive]
pub struct Password {
    /// The password.
    pub password: Secret,
    /// Until when it opens sockets.
    pub expires_at: SystemTime,
}

/// Verifies what stands in `connect`: a gateway password, else any other credential.
#[derive(Clone)]
pub struct ConnectVerifier {
    passwords: Arc<Verifications<PasswordVerifier>>,
    sign_in: SignIn,
}

/// Verifies a gateway password.
struct PasswordVerifier {
    passwords: Passwords,
    sign_in: SignIn,
}

/// What a password says, under our key: for whom it is, and what ends the socket that it opens.
#[derive(Serialize)]
struct Statement<'a> {
    expires_at: u64,
    session_end: Option<u64>,
    user_id: &'a str,
    provider: &'a str,
    subject: &'a str,
    session_id: Option<&'a str>,
    credential: Option<(bool, &'a str)>,
    scopes: &'a [Box<str>],
}

#[derive(Deserialize)]
struct StatementRead {
    expires_at: u64,
    session_end: Option<u64>,
    user_id: String,
    provider: String,
    subject: String,
    session_id: Option<String>,
    credential: Option<(bool, String)>,
    #[serde(default)]
    scopes: Vec<String>,
}

// === impl Passwords ===

impl Passwords {
    /// Passwords under the first of these keys; those that were made under the others are good too.
    #[must_use]
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Self {
        let derived = |key: K| {
            let whole = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
            // The key may be for other things too.
            let own = hmac::sign(&whole, ISSUER.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, own.as_ref())
        };
        Self {
            keys: keys.into_iter().map(derived).collect(),
        }
    }

    /// A password for who has signed in as `identity`.
    #[must_use]
    pub fn issue(&self, identity: &Identity) -> Password {
        let now = clock::now();
        let session_end = identity.expires_at();
        let expires_at = session_end.map_or(now + LIFETIME, |end| end.min(now + LIFETIME));
        let statement = Statement {
            expires_at: unix_seconds(expires_at),
            session_end: session_end.map(unix_seconds),
            user_id: identity.user_id(),
            provider: identity.provider(),
            subject: identity.subject(),
            session_id: identity.session_id(),
            credential: identity
                .credential_id()
                .map(|id| (identity.kind() == CredentialKind::AccessToken, id)),
            scopes: identity.scopes(),
        };
        // Strings and numbers always serialise.
        let statement = serde_json::to_vec(&statement).unwrap_or_default();
        let tag = self.keys.first().map(|key| hmac::sign(key, &statement));
        let tag = tag.map(|tag| URL_SAFE_NO_PAD.encode(tag));
        let (statement, tag) = (URL_SAFE_NO_PAD.encode(statement), tag.unwrap_or_default());
        Password {
            password: Secret::new(format!("{PREFIX}{statement}.{tag}")),
            expires_at,
        }
    }

    fn open(&self, password: &str, now: SystemTime) -> Result<Arc<Identity>, Reason> {
        let (statement, tag) = password
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('.'))
            .ok_or(Reason::Malformed)?;
        let statement = URL_SAFE_NO_PAD
            .decode(statement)
            .map_err(|_| Reason::Malformed)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| Reason::Malformed)?;
        // Compares in constant time.
        let mut keys = self.keys.iter();
        if !keys.any(|key| hmac::verify(key, &statement, &tag).is_ok()) {
            return Err(Reason::Signature);
        }
        let statement: StatementRead =
            serde_json::from_slice(&statement).map_err(|_| Reason::Malformed)?;
        if unix_seconds(now) >= statement.expires_at {
            return Err(Reason::Expired);
        }
        let mut identity = Identity::builder(ISSUER, statement.subject)
            .user_id(statement.user_id)
            .provider(statement.provider);
        if let Some(end) = statement.session_end {
            identity = identity.expires_at(UNIX_EPOCH + Duration::from_secs(end));
        }
        if let Some(session_id) = statement.session_id {
            identity = identity.session_id(session_id);
        }
        if let Some((is_access_token, id)) = statement.credential {
            let kind = match is_access_token {
                true => CredentialKind::AccessToken,
                false => CredentialKind::Session,
            };
            identity = identity.credential(kind, id).scopes(statement.scopes);
        }
        Ok(Arc::new(identity.build()))
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

// === impl ConnectVerifier ===

impl ConnectVerifier {
    /// A verifier of both.
    #[must_use]
    pub fn new(passwords: Passwords, sign_in: SignIn) -> Self {
        let verifier = PasswordVerifier {
            passwords,
            sign_in: sign_in.clone(),
        };
        let verifier = Verifications::new("people", verifier);
        Self {
            passwords: Arc::new(verifier.telling(sign_in.recent_people().clone())),
            sign_in,
        }
    }
}

impl Verify for ConnectVerifier {
    fn verify(&self, token: &str) -> VerifyFuture {
        self.verify_from(token, None)
    }

    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        match token.starts_with(PREFIX) {
            true => self.passwords.verify_from(token, address),
            false => self.sign_in.tokens().verify_from(token, address),
        }
    }
}

// === impl PasswordVerifier ===

impl Verify for PasswordVerifier {
    fn verify(&self, token: &str) -> VerifyFuture {
        let identity = match self.passwords.open(token, clock::now()) {
            Ok(identity) => identity,
            Err(reason) => return VerifyFuture::ready(Err(reason.into())),
        };
        if self.sign_in.is_disabled(identity.user_id()) {
            return VerifyFuture::ready(Err(Reason::Revoked.into()));
        }
        // Who has signed out in the meantime, or revoked the key, opens no socket with what they were given before.
        let still_is = self.sign_in.is_in_force(&identity, false);
        VerifyFuture::boxed(async move {
            match still_is.await {
                Ok(true) => Ok(identity),
                Ok(false) => Err(Reason::Revoked.into()),
                Err(_) => Err(VerifyError::Unavailable),
            }
        })
    }
}

impl fmt::Debug for ConnectVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectVerifier").finish_non_exhaustive()
    }
}

fn unix_seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice(expires_at: SystemTime) -> Identity {
        Identity::builder("https://issuer.example", "alice.b")
            .user_id("auth0|alice.b")
            .provider("auth0")
            .session_id("sid")
            .credential(CredentialKind::Session, "session")
            .expires_at(expires_at)
            .build()
    }

    #[test]
    fn a_password_stands_for_one_user_and_their_session() {
        let end = UNIX_EPOCH + Duration::from_secs(unix_seconds(clock::now()) + 3_600);
        let passwords = Passwords::new([b"key"]);
        let issued = passwords.issue(&alice(end));
        let identity = passwords
            .open(issued.password.expose(), clock::now())
            .unwrap();
        assert_eq!(&**identity.user_id(), "auth0|alice.b");
        let ends_with = (identity.credential_id(), identity.session_id());
        assert_eq!(
            (ends_with, identity.provider(), &**identity.subject()),
            ((Some("session"), Some("sid")), "auth0", "alice.b"),
            "whatever ends the session ends the socket"
        );
        assert_eq!(
            identity.expires_at(),
            Some(end),
            "the socket lives as long as the session"
        );
        assert_eq!(
            passwords
                .open(issued.password.expose(), issued.expires_at)
                .unwrap_err(),
            Reason::Expired,
            "the password itself does not"
        );
    }

    #[test]
    fn a_password_never_outlives_the_session() {
        let end = clock::now() + Duration::from_secs(10);
        assert_eq!(Passwords::new([b"key"]).issue(&alice(end)).expires_at, end);
    }

    #[test]
    fn forged_and_foreign_passwords_are_refused() {
        let passwords = Passwords::new([b"key"]);
        let issued = passwords.issue(&alice(clock::now() + LIFETIME));
        let good = issued.password.expose();
        let other_key = Passwords::new([b"other"]).issue(&alice(clock::now() + LIFETIME));
        let bob = r#"{"expires_at":99999999999,"session_end":null,"user_id":"bob","provider":"p","subject":"bob"}"#;
        let bob = URL_SAFE_NO_PAD.encode(bob);
        let tag = good.rsplit_once('.').unwrap().1;
        for password in [
            other_key.password.expose().to_owned(),
            format!("{PREFIX}{bob}.{tag}"),
            format!("{PREFIX}{bob}."),
            format!("{PREFIX}{bob}"),
            good[..good.len() - 4].to_owned(),
            PREFIX.to_owned(),
        ] {
            assert!(
                passwords.open(&password, clock::now()).is_err(),
                "{password}"
            );
        }
    }
}
