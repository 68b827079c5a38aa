use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, crypto::aws_lc::DEFAULT_PROVIDER};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    algorithm::{Algorithm, KeyKind},
    config::ConfigError,
};

/// A key that signatures are verified with. `Debug` shows its kind only.
#[derive(Clone)]
pub struct VerifyingKey {
    kind: KeyKind,
    key: DecodingKey,
    /// The key for each algorithm of RSA: reading it takes a third of the time of verifying.
    read: Arc<[(Algorithm, ParsedPublicKey)]>,
    /// The only algorithm the key is for, if its owner says so.
    algorithm: Option<Algorithm>,
    /// The one issuer it signs for, where a set of keys is for several (Entra, `issuer`).
    #[cfg(feature = "login")]
    issuer: Option<Box<str>>,
}

/// A key of a published set, as it stands there (RFC 7517, RFC 7518 section 6, RFC 8037). A member
/// twice does not parse.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part: whoever publishes it gave the key away.
    d: Option<IgnoredAny>,
    #[cfg(feature = "login")]
    issuer: Option<Box<str>>,
}

/// What RSA is used with.
static RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::RS256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::RS384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::RS512, &RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::PS256, &RSA_PSS_2048_8192_SHA256),
    (Algorithm::PS384, &RSA_PSS_2048_8192_SHA384),
    (Algorithm::PS512, &RSA_PSS_2048_8192_SHA512),
];

// === impl VerifyingKey ===

impl VerifyingKey {
    /// A secret shared with the issuer, for HMAC.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if it has fewer than 32 bytes (RFC 7518 section 3.2).
    pub fn hmac(secret: &[u8]) -> Result<Self, ConfigError> {
        if secret.len() < 32 {
            return Err(ConfigError::Key);
        }
        Ok(Self::new(KeyKind::Hmac, DecodingKey::from_secret(secret)))
    }

    /// An RSA public key in PEM form.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if it cannot be read or has fewer than 2048 or more than 8192 bits.
    pub fn rsa_pem(pem: &[u8]) -> Result<Self, ConfigError> {
        let key = DecodingKey::from_rsa_pem(pem).map_err(|_| ConfigError::Key)?;
        let der = key.try_get_as_bytes().map_err(|_| ConfigError::Key)?;
        let components = DEFAULT_PROVIDER
            .key_utils
            .rsa_pub_components_from_public_key;
        let (modulus, exponent) = components(der).map_err(|_| ConfigError::Key)?;
        Self::rsa(&modulus, &exponent).ok_or(ConfigError::Key)
    }

    /// A public key on P-256 or P-384 in PEM form.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if it cannot be read or is on another curve.
    pub fn ec_pem(pem: &[u8]) -> Result<Self, ConfigError> {
        let key = DecodingKey::from_ec_pem(pem).map_err(|_| ConfigError::Key)?;
        let point = key.try_get_as_bytes().map_err(|_| ConfigError::Key)?;
        // An uncompressed point is a tag and two coordinates (SEC 1 section 2.3.3).
        let kind = match point.len() {
            65 => KeyKind::P256,
            97 => KeyKind::P384,
            _ => return Err(ConfigError::Key),
        };
        Ok(Self::new(kind, key))
    }

    /// An Ed25519 public key in PEM form.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Key`] if it cannot be read or is a point of small order.
    pub fn ed_pem(pem: &[u8]) -> Result<Self, ConfigError> {
        let key = DecodingKey::from_ed_pem(pem).map_err(|_| ConfigError::Key)?;
        let point = key.try_get_as_bytes().map_err(|_| ConfigError::Key)?;
        Self::ed25519(point).ok_or(ConfigError::Key)
    }

    /// Whether the key may verify signatures of this algorithm.
    pub(super) fn serves(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.key_kind() && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// The one issuer the key signs for, if the set of keys says so.
    #[cfg(feature = "login")]
    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Whether the signature is right.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if let Some((_, key)) = self.read.iter().find(|(of, _)| *of == algorithm) {
            return key.verify_sig(signed, signature).is_ok();
        }
        // The provider is named and not looked up: what else is in the process cannot change it,
        // and with none installed the look-up panics.
        (DEFAULT_PROVIDER.verifier_factory)(&algorithm.to_jwa(), &self.key)
            .is_ok_and(|verifier| verifier.verify(signed, &signature.to_vec()).is_ok())
    }

    fn new(kind: KeyKind, key: DecodingKey) -> Self {
        Self {
            kind,
            key,
            read: Arc::default(),
            algorithm: None,
            #[cfg(feature = "login")]
            issuer: None,
        }
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let modulus = without_leading_zeros(modulus);
        let exponent = without_leading_zeros(exponent);
        if !(2048..=8192).contains(&bit_length(modulus)) || !is_fit_exponent(exponent) {
            return None;
        }
        let components = RsaPublicKeyComponents {
            n: modulus,
            e: exponent,
        };
        let read = RSA.iter().map(|(algorithm, parameters)| {
            let key = components.to_parsed_public_key(parameters);
            Some((*algorithm, key.ok()?))
        });
        let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Some(Self {
            read: read.collect::<Option<_>>()?,
            ..Self::new(KeyKind::Rsa, key)
        })
    }

    fn ec(kind: KeyKind, x: &[u8], y: &[u8]) -> Self {
        let point = [&[0x04], x, y].concat();
        Self::new(kind, DecodingKey::from_ec_der(&point))
    }

    fn ed25519(point: &[u8]) -> Option<Self> {
        let bytes = <&[u8; 32]>::try_from(point).ok()?;
        if has_small_order(bytes) {
            return None;
        }
        Some(Self::new(KeyKind::Ed25519, DecodingKey::from_ed_der(bytes)))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kind", &self.kind)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

// === impl Jwk ===

impl Jwk {
    /// The key, if it is one for signatures that is strong enough and of a kind that is known.
    /// `oct` is not: a secret in a published set is none.
    pub(super) fn to_key(&self) -> Option<VerifyingKey> {
        let may_verify = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"))
            && self.d.is_none();
        if !may_verify {
            return None;
        }
        let mut key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => VerifyingKey::rsa(&decode(&self.n)?, &decode(&self.e)?)?,
            ("EC", Some("P-256")) => self.to_ec_key(KeyKind::P256, 32)?,
            ("EC", Some("P-384")) => self.to_ec_key(KeyKind::P384, 48)?,
            ("OKP", Some("Ed25519")) => VerifyingKey::ed25519(&decode(&self.x)?)?,
            _ => return None,
        };
        if let Some(name) = &self.alg {
            let algorithm = Algorithm::from_name(name)?;
            if !key.serves(algorithm) {
                return None;
            }
            key.algorithm = Some(algorithm);
        }
        #[cfg(feature = "login")]
        key.issuer.clone_from(&self.issuer);
        Some(key)
    }

    pub(super) fn into_key_id(self) -> Option<String> {
        self.kid
    }

    fn to_ec_key(&self, kind: KeyKind, coordinate: usize) -> Option<VerifyingKey> {
        let (x, y) = (decode(&self.x)?, decode(&self.y)?);
        (x.len() == coordinate && y.len() == coordinate).then(|| VerifyingKey::ec(kind, &x, &y))
    }
}

fn decode(member: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member.as_deref()?).ok()
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// The bits of a big-endian number without leading zero bytes.
fn bit_length(number: &[u8]) -> usize {
    let unused = number
        .first()
        .map_or(0, |byte| byte.leading_zeros() as usize);
    number.len() * 8 - unused
}

/// Odd, at least three, and small enough that verifying stays cheap: 1 would make every message its
/// own signature.
fn is_fit_exponent(exponent: &[u8]) -> bool {
    match exponent {
        [] | [0..=2] => false,
        [.., last] => exponent.len() <= 4 && last % 2 == 1,
    }
}

/// Whether a point has an order of at most eight: then signatures exist that verify for any message.
/// There are eight such points; encodings that differ in the sign bit are one row.
fn has_small_order(point: &[u8; 32]) -> bool {
    let mut unsigned = *point;
    if let Some(last) = unsigned.last_mut() {
        *last &= 0x7f;
    }
    SMALL_ORDER.contains(&unsigned)
}

/// The y coordinates of the points of small order on Curve25519's Edwards form, with their
/// non-canonical encodings (the block list of libsodium's `ge25519_has_small_order`).
const SMALL_ORDER: [[u8; 32]; 7] = [
    little_endian(0x00, 0x00, 0x00),
    little_endian(0x01, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    little_endian(0xec, 0xff, 0x7f),
    little_endian(0xed, 0xff, 0x7f),
    little_endian(0xee, 0xff, 0x7f),
];

const fn little_endian(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}
