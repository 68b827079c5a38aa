//! Gateway passwords: what `/api/openclaw/credentials` hands out for clients that can only put a secret into `connect`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tower_sso::{Identity, Reason, Verify, VerifyError, VerifyFuture};

use crate::clock;
use crate::config::Secret;

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
    key: Arc<hmac::Key>,
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

/// Verifies what stands in `connect`: a gateway password, else a token of the issuer.
#[derive(Clone)]
pub struct ConnectVerifier {
    passwords: Passwords,
    tokens: Arc<dyn Verify>,
}

// === impl Passwords ===

impl Passwords {
    /// Passwords under the store's key.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)),
        }
    }

    /// A password for who has signed in as `identity`.
    #[must_use]
    pub fn issue(&self, identity: &Identity) -> Password {
        let now = clock::now();
        let session_end = identity.expires_at();
        let expires_at = session_end.map_or(now + LIFETIME, |end| end.min(now + LIFETIME));
        let session_end = session_end.map_or(0, unix_seconds);
        let statement = format!(
            "{}.{session_end}.{}",
            unix_seconds(expires_at),
            identity.user_id()
        );
        let tag = hmac::sign(&self.key, statement.as_bytes());
        let (statement, tag) = (
            URL_SAFE_NO_PAD.encode(statement),
            URL_SAFE_NO_PAD.encode(tag),
        );
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
        hmac::verify(&self.key, &statement, &tag).map_err(|_| Reason::Signature)?;
        let statement = std::str::from_utf8(&statement).map_err(|_| Reason::Malformed)?;
        let mut parts = statement.splitn(3, '.');
        let mut seconds = || {
            parts
                .next()
                .and_then(|part| part.parse::<u64>().ok())
                .ok_or(Reason::Malformed)
        };
        let (expires_at, session_end) = (seconds()?, seconds()?);
        let user_id = parts
            .next()
            .filter(|id| !id.is_empty())
            .ok_or(Reason::Malformed)?;
        if unix_seconds(now) >= expires_at {
            return Err(Reason::Expired);
        }
        let mut identity = Identity::builder(ISSUER, user_id);
        if session_end > 0 {
            identity = identity.expires_at(UNIX_EPOCH + Duration::from_secs(session_end));
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
    pub fn new(passwords: Passwords, tokens: Arc<dyn Verify>) -> Self {
        Self { passwords, tokens }
    }
}

impl Verify for ConnectVerifier {
    fn verify(&self, token: &str) -> VerifyFuture {
        if token.starts_with(PREFIX) {
            return VerifyFuture::ready(
                self.passwords
                    .open(token, clock::now())
                    .map_err(VerifyError::Invalid),
            );
        }
        self.tokens.verify(token)
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
        Identity::builder("https://issuer.example", "auth0|alice.b")
            .expires_at(expires_at)
            .build()
    }

    #[test]
    fn a_password_stands_for_one_user_and_their_session() {
        let end = UNIX_EPOCH + Duration::from_secs(unix_seconds(clock::now()) + 3_600);
        let passwords = Passwords::new(b"key");
        let issued = passwords.issue(&alice(end));
        let identity = passwords
            .open(issued.password.expose(), clock::now())
            .unwrap();
        assert_eq!(&**identity.user_id(), "auth0|alice.b");
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
        assert_eq!(Passwords::new(b"key").issue(&alice(end)).expires_at, end);
    }

    #[test]
    fn forged_and_foreign_passwords_are_refused() {
        let passwords = Passwords::new(b"key");
        let issued = passwords.issue(&alice(clock::now() + LIFETIME));
        let good = issued.password.expose();
        let other_key = Passwords::new(b"other").issue(&alice(clock::now() + LIFETIME));
        let bob = URL_SAFE_NO_PAD.encode("99999999999.0.bob");
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
