//! A verifier for JSON Web Tokens of one issuer.
//!
//! [`JwtVerifier`] applies the rules of RFC 7519, RFC 8725 and RFC 9068, stricter where they leave a
//! choice:
//!
//! - The token has at most 16 KiB, three parts of canonical base64url, and strict JSON inside: no
//!   member twice at any depth, at most 16 levels.
//! - The algorithm is one of the configured ones *and* one the key is for. `none` is not an
//!   algorithm. HMAC is for a static secret alone and never mixed with others.
//! - `exp`, `iss`, `aud` and `sub` are required; `nbf` and `iat` count when present. A registered
//!   claim of the wrong type refuses the token. Times are whole or fractional seconds up to the
//!   year 9999.
//! - A `crit` header refuses the token. `jku`, `x5u`, `jwk` and `x5c` are not looked at.
//! - `typ` must be the required one; without one it may be absent, `JWT` or `at+jwt`. Security event
//!   and logout tokens (a claim `events`) and ID tokens that show it (a claim `at_hash` or `c_hash`)
//!   never pass; a claim `nonce` does where no type is required.
//! - A token that is bound to a key or a certificate of its holder (`cnf`, as of DPoP and mutual TLS) is
//!   refused: nobody here checks that whoever sends it has them.
//! - [`JwtConfig::rfc9068`] requires what RFC 9068 does of an access token.
//! - A subject has 1 to 255 bytes without control, invisible or direction-changing characters and
//!   without white space around it. Otherwise it is compared byte for byte: the composed and the
//!   decomposed form of one letter are two users, never merged.
//!
//! # Keys
//!
//! [`JwtVerifier::discover`] finds the keys by OpenID Connect discovery when the first token needs
//! them, and renews them in the background when half of their time ([`JwtConfig::key_ttl`]) is over.
//! A token with an unknown `kid` renews them too, at most once per [`JwtConfig::cool_down`], however
//! many such tokens come. Any number of requests share one fetch. While the issuer cannot answer, or
//! answers nonsense, the old keys stay usable for [`JwtConfig::stale_for`].
//!
//! A key serves only if it is for signatures, strong enough (RSA 2048 to 8192 bits), and the only one
//! that could have signed: of two usable keys for one algorithm under one `kid` neither is used, and a
//! token without `kid` needs a set with one key for its algorithm.
//!
//! # Verdicts
//!
//! A verified token is remembered in [`Verdicts`](crate::Verdicts) until it expires, for 60 seconds
//! at most, or until the keys change: then it costs a hash and a look-up. Refused tokens are not
//! remembered.

mod algorithm;
mod claims;
mod clock;
mod compact;
mod config;
mod discovery;
mod identity;
mod json;
mod key;
mod key_set;
mod remote;
#[cfg(feature = "login")]
mod signed;
mod stats;
mod verifier;

#[cfg(feature = "opaque")]
pub(crate) use self::discovery::{Transport, parse_address};
#[cfg(feature = "opaque")]
pub(crate) use self::identity::{identify_profile, introspected};
pub use self::{
    algorithm::Algorithm,
    clock::{Clock, SystemClock},
    config::{ConfigError, JwtConfig},
    key::VerifyingKey,
    stats::Stats,
    verifier::JwtVerifier,
};
#[cfg(feature = "login")]
pub(crate) use self::{
    json::parse_object,
    signed::{SignedToken, SignedTokens, Tenants},
};
