//! Keys that sign, tokens, an issuer that can be made to fail, and a clock that is set by hand.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    digest, hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tower_sso::{
    HttpClient, HttpError, HttpFuture, Identity, Reason, Verify, VerifyError,
    jwt::{Algorithm, Clock, JwtConfig, JwtVerifier},
};

pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const AUDIENCE: &str = "api";
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) type Verdict = Result<Arc<Identity>, VerifyError>;

// === keys ===

/// A key that signs.
pub(crate) enum SigningKey {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Secret(Vec<u8>),
}

impl SigningKey {
    pub(crate) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    /// The one RSA key of this run: making one takes long.
    pub(crate) fn rsa() -> &'static Self {
        static KEY: OnceLock<SigningKey> = OnceLock::new();
        KEY.get_or_init(|| Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub(crate) fn as_rsa(&self) -> &RsaKeyPair {
        match self {
            Self::Rsa(key) => key,
            _ => panic!("not an RSA key"),
        }
    }

    /// The public key as a JWK.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let ec = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({"kty": "EC", "crv": curve, "kid": kid, "x": b64(x), "y": b64(y)})
        };
        match self {
            Self::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "kid": kid, "n": b64(public.n), "e": b64(public.e)})
            }
            Self::P256(key) => ec("P-256", key.public_key().as_ref()),
            Self::P384(key) => ec("P-384", key.public_key().as_ref()),
            Self::Ed25519(key) => {
                let x = b64(key.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
            }
            Self::Secret(secret) => json!({"kty": "oct", "kid": kid, "k": b64(secret)}),
        }
    }

    /// The algorithm the key signs with if a token says nothing else.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Ed25519(_) => "EdDSA",
            Self::Secret(_) => "HS256",
        }
    }

    pub(crate) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
                    "PS256" => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::P256(key) | Self::P384(key) => {
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::Secret(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
        }
    }

    /// A token of these claims under the given `kid`.
    pub(crate) fn token(&self, kid: &str, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm(), "typ": "JWT", "kid": kid});
        self.token_with(&header, claims)
    }

    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    /// A token of exactly these texts, signed as the header says or else as the key does.
    pub(crate) fn token_of(&self, header: &str, claims: &str) -> String {
        let parsed: Value = serde_json::from_str(header).unwrap_or_default();
        let algorithm = parsed["alg"].as_str().unwrap_or(self.algorithm());
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", b64(signature))
    }
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

pub(crate) fn jwk_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// `EMSA-PKCS1-v1_5` with SHA-256 for a modulus of 2048 bits (RFC 8017 section 9.2).
pub(crate) fn padded_digest(message: &[u8]) -> Vec<u8> {
    let info = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    let hash = digest::digest(&digest::SHA256, message);
    let mut padded = vec![0, 1];
    padded.resize(256 - 1 - info.len() - 32, 0xff);
    padded.push(0);
    padded.extend(info);
    padded.extend(hash.as_ref());
    padded
}

// === claims ===

/// Claims that hold.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": NOW,
        "exp": NOW + 600,
    })
}

/// Claims that hold but for this one; `Value::Null` as a marker removes it.
pub(crate) fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

pub(crate) fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

// === clock ===

/// A clock that is set by hand, in seconds since 1970.
#[derive(Clone)]
pub(crate) struct HandClock(Arc<AtomicU64>);

impl HandClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NOW)))
    }

    pub(crate) fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

// === verifiers ===

/// A configuration at `NOW`, for the primary issuer.
pub(crate) fn config() -> JwtConfig {
    JwtConfig::new(ISSUER, AUDIENCE)
        .primary(true)
        .clock(Arc::new(HandClock::new()))
        .algorithms([
            Algorithm::RS256,
            Algorithm::PS256,
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::EdDSA,
        ])
}

/// A verifier with one P-256 key `k`, and that key.
pub(crate) fn with_p256(config: JwtConfig) -> (JwtVerifier, SigningKey) {
    let key = SigningKey::p256();
    let verifier = JwtVerifier::with_jwk_set(config, &jwk_set(&[key.jwk("k")])).unwrap();
    (verifier, key)
}

/// The verdict, of a verifier that has it at once.
pub(crate) fn verdict(verifier: &impl Verify, token: &str) -> Verdict {
    let future = std::pin::pin!(verifier.verify(token));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => verdict,
        Poll::Pending => panic!("the verifier waits"),
    }
}

/// Why the token is refused; `None` if it is not.
pub(crate) fn refusal(verifier: &impl Verify, token: &str) -> Option<Reason> {
    match verdict(verifier, token) {
        Ok(_) => None,
        Err(VerifyError::Invalid(reason)) => Some(reason),
        Err(error) => panic!("{error}"),
    }
}

// === issuer ===

/// An issuer that publishes what it is told to, and writes down what it was asked for.
#[derive(Clone)]
pub(crate) struct Issuer(Arc<Mutex<State>>);

struct State {
    answers: HashMap<String, Answer>,
    asked: Vec<String>,
}

#[derive(Clone)]
pub(crate) enum Answer {
    Body(Bytes),
    Status(u16),
    Error,
    Never,
    Panic,
}

pub(crate) const DISCOVERY: &str = "https://issuer.example/.well-known/openid-configuration";
pub(crate) const KEYS: &str = "https://issuer.example/keys";

impl Issuer {
    /// Publishes these keys.
    pub(crate) fn new(keys: &[Value]) -> Self {
        let issuer = Self(Arc::new(Mutex::new(State {
            answers: HashMap::new(),
            asked: Vec::new(),
        })));
        issuer.answer(
            DISCOVERY,
            Answer::text(json!({"issuer": ISSUER, "jwks_uri": KEYS}).to_string()),
        );
        issuer.publish(keys);
        issuer
    }

    pub(crate) fn publish(&self, keys: &[Value]) {
        self.answer(KEYS, Answer::text(jwk_set(keys)));
    }

    pub(crate) fn answer(&self, address: &str, answer: Answer) {
        let mut state = self.0.lock().unwrap();
        state.answers.insert(address.to_owned(), answer);
    }

    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    pub(crate) fn verifier(&self, config: JwtConfig) -> JwtVerifier {
        JwtVerifier::discover(config, Arc::new(self.clone())).unwrap()
    }
}

impl HttpClient for Issuer {
    fn send(&self, request: Request<Bytes>, limit: usize) -> HttpFuture {
        assert_eq!(limit, 1024 * 1024, "the bound of a document");
        assert_eq!(request.method(), Method::GET);
        assert!(request.body().is_empty());
        let address = request.uri().to_string();
        let answer = {
            let mut state = self.0.lock().unwrap();
            state.asked.push(address.clone());
            state
                .answers
                .get(&address)
                .cloned()
                .unwrap_or(Answer::Error)
        };
        HttpFuture::boxed(async move {
            // A network never answers at once.
            tokio::task::yield_now().await;
            match answer {
                Answer::Body(body) => Ok(Response::new(body)),
                Answer::Status(status) => {
                    let mut response = Response::new(Bytes::from_static(b"{}"));
                    *response.status_mut() = status.try_into().unwrap();
                    Ok(response)
                }
                Answer::Error => Err(HttpError::new("no route to the issuer")),
                Answer::Never => std::future::pending().await,
                Answer::Panic => panic!("the fetch panics"),
            }
        })
    }
}

impl Answer {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Body(Bytes::from(text.into()))
    }
}

/// Lets the tasks in the background run until they wait for time.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
