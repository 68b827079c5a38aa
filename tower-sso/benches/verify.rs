//! What a token costs: verified, and remembered.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench"
)]

use std::{sync::OnceLock, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use divan::Bencher;
use serde_json::{Value, json};
use tower_sso::{
    Verify as _,
    jwt::{Clock as _, JwtConfig, JwtVerifier, SystemClock},
};

fn main() {
    divan::main();
}

const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

#[divan::bench(args = ALGORITHMS)]
fn verified(bencher: Bencher<'_, '_>, algorithm: &str) {
    let (config, set, token) = issue(algorithm);
    let verifier = JwtVerifier::with_jwk_set(config.cache_capacity(0), &set).unwrap();
    bencher.bench(|| verifier.verify(&token));
    assert!(verifier.stats().verified > 0 && verifier.stats().remembered == 0);
}

#[divan::bench(args = ALGORITHMS)]
fn remembered(bencher: Bencher<'_, '_>, algorithm: &str) {
    let (config, set, token) = issue(algorithm);
    let verifier = JwtVerifier::with_jwk_set(config, &set).unwrap();
    drop(verifier.verify(&token));
    bencher.bench(|| verifier.verify(&token));
    assert!(verifier.stats().remembered > 0);
}

fn issue(algorithm: &str) -> (JwtConfig, String, String) {
    let now = SystemClock
        .now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let expires = now + Duration::from_secs(3600);
    let issuer = "https://issuer.example";
    let claims = json!({
        "iss": issuer, "aud": "api", "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "iat": now.as_secs(), "exp": expires.as_secs(), "scope": "openid profile email",
        "email": "alice@example.com", "email_verified": true, "groups": ["a", "b", "c"],
        "jti": "01890a5d-ac96-774b-bcce-b302099a8057",
    });
    let header = json!({"alg": algorithm, "typ": "JWT", "kid": "k"});
    let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let (jwk, signature) = sign(algorithm, message.as_bytes());
    let config = JwtConfig::new(issuer, "api").primary(true);
    let set = json!({ "keys": [jwk] }).to_string();
    (config, set, format!("{message}.{}", b64(signature)))
}

fn sign(algorithm: &str, message: &[u8]) -> (Value, Vec<u8>) {
    static RSA: OnceLock<RsaKeyPair> = OnceLock::new();
    let random = SystemRandom::new();
    match algorithm {
        "RS256" => {
            let key = RSA.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
            let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                .unwrap();
            let jwk = json!({"kty": "RSA", "kid": "k", "n": b64(public.n), "e": b64(public.e)});
            (jwk, signature)
        }
        "ES256" => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let (x, y) = key.public_key().as_ref()[1..].split_at(32);
            let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": b64(x), "y": b64(y)});
            (jwk, key.sign(&random, message).unwrap().as_ref().to_vec())
        }
        _ => {
            let key = Ed25519KeyPair::generate().unwrap();
            let x = b64(key.public_key().as_ref());
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x});
            (jwk, key.sign(message).as_ref().to_vec())
        }
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
