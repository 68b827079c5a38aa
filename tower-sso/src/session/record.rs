use std::{fmt, sync::Arc, time::SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;

/// Names a credential in a store: the SHA-256 of its secret, so that who reads the store can use
/// none of them.
///
/// `Display` and [`parse`](Self::parse) have it as base64url, fit to be shown to its owner and to
/// name the credential in an API.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key([u8; 32]);

/// What kind of credential a [`Record`] is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// A login session of a browser.
    Session,
    /// A personal access token.
    AccessToken,
}

/// A credential as a [`Store`](super::Store) keeps it.
///
/// A store reads only what it needs to find and to end it; all else is in [`data`](Self::data),
/// sealed.
#[derive(Clone)]
pub struct Record {
    /// Names it.
    pub key: Key,
    /// What it is.
    pub kind: Kind,
    /// Whose it is: [`Identity::user_id`](crate::Identity::user_id).
    pub user_id: Arc<str>,
    /// The short name of the issuer ([`Identity::provider`](crate::Identity::provider)).
    pub provider: Arc<str>,
    /// The user's id at the issuer (`sub`).
    pub subject: Arc<str>,
    /// The issuer's id of the session it came from (`sid`), if the issuer names one.
    pub session_id: Option<Arc<str>>,
    /// When it was made, to the millisecond.
    pub created_at: SystemTime,
    /// When it was last used, to the millisecond.
    pub seen_at: SystemTime,
    /// When it ends if it is not used again, to the millisecond. From then on a store may forget it,
    /// and must not find it.
    pub expires_at: SystemTime,
    /// How often `data` was replaced.
    pub version: u64,
    /// The identity, tokens of the issuer and the like: opaque to the store.
    pub data: Bytes,
}

// === impl Key ===

impl Key {
    /// The key of the credential with this secret.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, secret).as_ref());
        Self(key)
    }

    /// The key as a store has it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key as `Display` shows it; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

// === impl Record ===

/// `Debug` shows no personal data.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("kind", &self.kind)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
