use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// How a secret begins (Standard Webhooks, "Signature scheme").
const PREFIX: &str = "whsec_";

/// Bytes of a secret (Standard Webhooks, "Signature scheme").
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// Signs what is sent to a webhook, with each of its secrets; clones share them.
#[derive(Clone)]
pub struct Signer(Arc<[hmac::Key]>);

/// Why a text holds no secrets to sign with.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum NotASecret {
    /// There is no line with anything in it.
    #[error("is empty")]
    Empty,
    /// A line begins otherwise.
    #[error("has a line that does not begin with `whsec_`")]
    Prefix,
    /// What follows is not base64.
    #[error("has a line that is not base64 after `whsec_`")]
    Base64,
    /// A secret is too short or too long.
    #[error("has a line of {0} bytes, where 24 to 64 are needed")]
    Length(usize),
}

// === impl Signer ===

impl Signer {
    /// Signs with the secrets on these lines, each `whsec_` and 24 to 64 bytes in base64. Empty lines are none.
    ///
    /// # Errors
    ///
    /// See [`NotASecret`].
    pub fn parse(lines: &str) -> Result<Self, NotASecret> {
        let lines = lines.lines().map(str::trim);
        let keys: Vec<_> = lines
            .filter(|line| !line.is_empty())
            .map(key)
            .collect::<Result<_, _>>()?;
        match keys.is_empty() {
            true => Err(NotASecret::Empty),
            false => Ok(Self(keys.into())),
        }
    }

    /// The value of `webhook-signature`: a signature for each secret, with a space between them.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        let signatures = self.0.iter().map(|key| {
            let mut signing = hmac::Context::with_key(key);
            signing.update(head.as_bytes());
            signing.update(body);
            format!("v1,{}", STANDARD.encode(signing.sign()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

fn key(line: &str) -> Result<hmac::Key, NotASecret> {
    let secret = line.strip_prefix(PREFIX).ok_or(NotASecret::Prefix)?;
    let secret = STANDARD.decode(secret).map_err(|_| NotASecret::Base64)?;
    match LENGTH.contains(&secret.len()) {
        true => Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret)),
        false => Err(NotASecret::Length(secret.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the specification's repository and of its libraries' tests.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn signs_as_the_published_example() {
        let signer = Signer::parse(SECRET).unwrap();
        assert_eq!(signer.sign(ID, 1_614_265_330, BODY), SIGNATURE);
    }

    #[test]
    fn signs_with_each_secret() {
        let other = format!("whsec_{}", STANDARD.encode([7; 64]));
        let signer = Signer::parse(&format!("\n{other}\r\n  {SECRET}\n")).unwrap();
        let signed = signer.sign(ID, 1_614_265_330, BODY);
        let alone = Signer::parse(&other).unwrap();
        let by_other = alone.sign(ID, 1_614_265_330, BODY);
        assert_eq!(signed, format!("{by_other} {SIGNATURE}"));
    }

    #[test]
    fn says_what_is_wrong_with_a_secret_and_shows_none() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (lines, wrong) in [
            (" \n".to_owned(), NotASecret::Empty),
            (format!("{SECRET}\ncanary"), NotASecret::Prefix),
            ("WHSEC_canary".to_owned(), NotASecret::Prefix),
            ("whsec_canary!".to_owned(), NotASecret::Base64),
            (of(23), NotASecret::Length(23)),
            (of(65), NotASecret::Length(65)),
        ] {
            let error = Signer::parse(&lines).unwrap_err();
            assert_eq!(error, wrong, "{lines}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        for bytes in [24, 64] {
            let signer = Signer::parse(&of(bytes)).unwrap();
            assert_eq!(format!("{signer:?}"), "Signer { .. }");
        }
    }
}
