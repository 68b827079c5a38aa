use std::fmt;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::AUDIENCE;
use crate::clock;

/// How long tokens are good.
pub(super) const LIFETIME: Duration = Duration::from_secs(8 * 3_600);

const KEY_ID: &str = "dev";

/// Signs tokens, with a key of this run alone.
pub(super) struct SigningKey(EcdsaKeyPair);

// === impl SigningKey ===

impl SigningKey {
    pub(super) fn generate() -> io::Result<Self> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map(Self)
            .map_err(|_| io::Error::other("no key can be made"))
    }

    /// The public key (RFC 7518 §6.2).
    pub(super) fn jwk(&self) -> Value {
        // Uncompressed: 4, x, y (SEC 1 §2.3.3).
        let point = self.0.public_key().as_ref();
        let coordinate =
            |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
            "x": coordinate(1), "y": coordinate(33)})
    }

    pub(super) fn access_token(&self, issuer: &str, account: &str) -> String {
        let mut claims = claims(issuer, account, AUDIENCE);
        if let Some(claims) = claims.as_object_mut() {
            claims.insert("client_id".to_owned(), super::CLIENT.into());
            claims.insert("jti".to_owned(), uuid::Uuid::new_v4().to_string().into());
        }
        self.sign("at+jwt", &claims)
    }

    pub(super) fn id_token(
        &self,
        issuer: &str,
        client: &str,
        account: &str,
        nonce: Option<&str>,
    ) -> String {
        let mut claims = claims(issuer, account, client);
        if let (Some(nonce), Some(claims)) = (nonce, claims.as_object_mut()) {
            claims.insert("nonce".to_owned(), nonce.into());
        }
        self.sign("JWT", &claims)
    }

    fn sign(&self, kind: &str, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "typ": kind, "kid": KEY_ID});
        let signed = format!("{}.{}", part(&header), part(claims));
        // Without randomness it is not signed, and nobody takes it.
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map(|signature| URL_SAFE_NO_PAD.encode(signature));
        format!("{signed}.{}", signature.unwrap_or_default())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

fn claims(issuer: &str, account: &str, audience: &str) -> Value {
    let now = clock::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let groups: &[&str] = match account {
        "admin" => &["staff", "openclaw-admins"],
        _ => &["staff"],
    };
    json!({
        "iss": issuer, "sub": account, "aud": audience,
        "iat": now.as_secs(), "exp": (now + LIFETIME).as_secs(),
        "name": format!("{account} of the demo"), "email": format!("{account}@example.com"), "email_verified": true,
        "groups": groups,
    })
}
