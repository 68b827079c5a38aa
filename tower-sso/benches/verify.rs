//! What a token costs: verified, and remembered; and verification as a ratio to the signature's alone.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench"
)]

use std::{
    hint::black_box,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use divan::Bencher;
use serde_json::{Value, json};
use tower_sso::{
    HttpError, HttpFuture, Issuers, Verdicts, Verify as _,
    jwt::{Clock as _, JwtConfig, JwtVerifier, SystemClock},
};

/// The most that RS256 may take, with everything that is checked of a token, for the bare signature's one.
const MOST: f64 = 1.4;

fn main() {
    divan::main();
    // Nothing is measured where the benches are only tried (`cargo test --benches`) or listed.
    if std::env::args().any(|argument| argument == "--bench") {
        ratio();
    }
}

/// RS256 through the verifier, against AWS-LC alone, in turns, so that both have the same machine.
fn ratio() {
    const ROUNDS: usize = 200;
    let (config, set, token) = issue("RS256");
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // Read once, which is the fastest that AWS-LC offers.
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, rsa().public_key()).unwrap();
    let bare = || {
        key.verify_sig(black_box(message.as_bytes()), &signature)
            .unwrap();
    };
    let verifier = JwtVerifier::with_jwk_set(config.cache_capacity(0), &set).unwrap();
    let whole = || drop(black_box(verifier.verify(black_box(&token))));
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (best, work) in best.iter_mut().zip([&bare as &dyn Fn(), &whole]) {
            let start = Instant::now();
            (0..50).for_each(|_| work());
            *best = (*best).min(start.elapsed() / 50);
        }
    }
    assert!(verifier.stats().verified >= 50 * ROUNDS as u64);
    let [bare, whole] = best;
    let ratio = whole.as_secs_f64() / bare.as_secs_f64();
    println!("RS256: {whole:?} verified, {bare:?} the signature alone, ratio {ratio:.2}");
    assert!(ratio <= MOST, "at most {MOST}");
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

/// The same where there are two issuers.
#[divan::bench(args = ALGORITHMS)]
fn remembered_beside_another_issuer(bencher: Bencher<'_, '_>, algorithm: &str) {
    let (config, set, token) = issue(algorithm);
    let document =
        r#"{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys"}"#;
    let client = move |request: http::Request<bytes::Bytes>, _| {
        let answer = match request.uri().path() {
            "/keys" => Ok(set.clone()),
            _ if request.uri().host() == Some("issuer.example") => Ok(document.to_owned()),
            _ => Err(HttpError::new("nobody else is asked")),
        };
        HttpFuture::ready(answer.map(|text| http::Response::new(text.into())))
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let issuers = Issuers::builder(Verdicts::default(), Arc::new(client))
        .issuer(config)
        .issuer(JwtConfig::new("https://other.example", "api").alias("other"))
        .build()
        .unwrap();
    runtime.block_on(issuers.verify(&token)).unwrap();
    bencher.bench(|| issuers.verify(&token));
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
    let random = SystemRandom::new();
    match algorithm {
        "RS256" => {
            let key = rsa();
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

fn rsa() -> &'static RsaKeyPair {
    static RSA: OnceLock<RsaKeyPair> = OnceLock::new();
    RSA.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
