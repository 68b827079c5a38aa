//! The key with which this gateway signs its handshakes.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// One Ed25519 key for all people: the instance takes who somebody is from our header, and one key for several
/// identities (observed of OpenClaw 2026.9.6). It is stored, since the instance keys a browser's outbox by it.
pub struct Device {
    key: Ed25519KeyPair,
    id: String,
    public_key: String,
}

impl Device {
    /// A new key and its PKCS #8 form for the store.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn generate() -> Result<(Self, Vec<u8>), aws_lc_rs::error::Unspecified> {
        let key = Ed25519KeyPair::generate()?;
        let pkcs8 = key.to_pkcs8()?.as_ref().to_vec();
        Ok((Self::new(key), pkcs8))
    }

    /// The key from the store.
    ///
    /// # Errors
    ///
    /// The bytes are not such a key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, aws_lc_rs::error::KeyRejected> {
        Ed25519KeyPair::from_pkcs8(pkcs8).map(Self::new)
    }

    fn new(key: Ed25519KeyPair) -> Self {
        let public = key.public_key().as_ref();
        let id = digest(&SHA256, public)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let public_key = URL_SAFE_NO_PAD.encode(public);
        Self {
            key,
            id,
            public_key,
        }
    }

    /// The `device` member of a `connect` request by `client`, its id, mode and platform: the protocol's v3 text, signed.
    pub(super) fn sign(
        &self,
        [id, mode, platform]: [&str; 3],
        scopes: &str,
        signed_at_ms: u128,
        nonce: &str,
    ) -> serde_json::Value {
        let text = format!(
            "v3|{}|{id}|{mode}|operator|{scopes}|{signed_at_ms}||{nonce}|{platform}|",
            self.id
        );
        serde_json::json!({
            "id": self.id,
            "publicKey": self.public_key,
            "signature": URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes())),
            "signedAt": u64::try_from(signed_at_ms).unwrap_or(u64::MAX),
            "nonce": nonce,
        })
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
