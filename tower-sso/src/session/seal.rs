use std::{fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest::{SHA256, digest},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;
use zeroize::Zeroize;

/// Seals what travels through browsers or lies in stores: who has no key can neither read nor change
/// it (AES-256-GCM).
///
/// The first key seals, all of them open. To change keys without signing anybody out, put the new one
/// in front and take the old one away when everything it sealed is over: with the defaults of
/// [`Sessions`](super::Sessions) after seven days, with personal access tokens after their longest
/// life. One key is good for four thousand million sealings, more than fifty a second for two years
/// (NIST SP 800-38D section 8.3).
///
/// Cheap to clone. `Debug` shows the ids of the keys only; a key's memory is wiped when it is dropped.
///
/// # Examples
///
/// ```
/// use tower_sso::session::SealingKeys;
///
/// // 32 random bytes each, from a file that only the server may read.
/// let (new, old) = ([1; 32], [2; 32]);
/// let before = SealingKeys::new([old])?;
/// let keys = SealingKeys::new([new, old])?;
///
/// let sealed = before.seal("ticket", b"seat 7");
/// assert_eq!(keys.open("ticket", &sealed).as_deref(), Some(&b"seat 7"[..]));
/// assert_eq!(keys.open("voucher", &sealed), None);
/// # Ok::<(), tower_sso::session::SealingKeysError>(())
/// ```
#[derive(Clone)]
pub struct SealingKeys(Arc<[SealingKey]>);

/// Keys that nothing can be sealed with.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum SealingKeysError {
    /// There is none.
    #[error("there is no sealing key")]
    Missing,
    /// One has not 32 bytes.
    #[error("a sealing key has not 32 bytes")]
    Length,
    /// One is there twice.
    #[error("a sealing key is there twice")]
    Repeated,
}

struct SealingKey {
    /// The first 8 hexadecimal digits of the SHA-256 of the key.
    id: Box<str>,
    key: RandomizedNonceKey,
    /// Derived from the key, for [`check`](SealingKeys::check).
    check: hmac::Key,
}

/// How long a [`check`](SealingKeys::check) is, in bytes.
pub(super) const CHECK_LEN: usize = 4;

const VERSION: &str = "v1";

// === impl SealingKeys ===

impl SealingKeys {
    /// The first of these keys seals, all of them open; each has 32 random bytes.
    ///
    /// # Errors
    ///
    /// [`SealingKeysError`] if there is no key, one is too short or too long, or one is there twice.
    pub fn new<K: AsRef<[u8]>>(
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Self, SealingKeysError> {
        let mut held: Vec<SealingKey> = Vec::new();
        for key in keys {
            let key = SealingKey::new(key.as_ref())?;
            if held.iter().any(|other| other.id == key.id) {
                return Err(SealingKeysError::Repeated);
            }
            held.push(key);
        }
        if held.is_empty() {
            return Err(SealingKeysError::Missing);
        }
        Ok(Self(held.into()))
    }

    /// Seals `plain`, so that it opens for this purpose only.
    ///
    /// The text has letters, digits, `-`, `_` and `.` only: fit for a cookie or an address. It is
    /// empty, and opens for nothing, if there is no randomness to be had or `plain` is longer than
    /// 64 GiB.
    #[must_use]
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> String {
        // `new` has refused to be without keys.
        let Some(first) = self.0.first() else {
            return String::new();
        };
        let mut sealed = plain.to_vec();
        let aad = Aad::from(purpose.as_bytes());
        let Ok(nonce) = first.key.seal_in_place_append_tag(aad, &mut sealed) else {
            sealed.zeroize();
            return String::new();
        };
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        let id = &first.id;
        format!("{VERSION}.{id}.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// A few bytes that tell whether something was made here, by the first key: not a signature, but strangers cannot
    /// make them up, nor try out many.
    pub(super) fn check(&self, purpose: &str, text: &[u8]) -> [u8; CHECK_LEN] {
        let first = self.0.first();
        first.map_or([0; CHECK_LEN], |key| key.check(purpose, text))
    }

    /// Whether these bytes are the [`check`](Self::check) by one of the keys.
    pub(super) fn is_check(&self, purpose: &str, text: &[u8], check: &[u8; CHECK_LEN]) -> bool {
        self.0.iter().any(|key| key.check(purpose, text) == *check)
    }

    /// What was sealed for this purpose with one of the keys; `None` if the text is anything else.
    #[must_use]
    pub fn open(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        let (id, sealed) = text
            .strip_prefix(VERSION)?
            .strip_prefix('.')?
            .split_once('.')?;
        let held = self.0.iter().find(|key| &*key.id == id)?;
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = Aad::from(purpose.as_bytes());
        let plain = held.key.open_in_place(nonce, aad, sealed).ok()?;
        let opened = plain.to_vec();
        bytes.zeroize();
        Some(opened)
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|key| &key.id))
            .finish()
    }
}

// === impl SealingKey ===

impl SealingKey {
    fn new(key: &[u8]) -> Result<Self, SealingKeysError> {
        let hash = digest(&SHA256, key);
        let id = hash.as_ref().iter().take(4);
        Ok(Self {
            id: id.map(|byte| format!("{byte:02x}")).collect(),
            check: {
                let whole = hmac::Key::new(hmac::HMAC_SHA256, key);
                let derived = hmac::sign(&whole, b"tower-sso check");
                hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
            },
            key: RandomizedNonceKey::new(&AES_256_GCM, key)
                .map_err(|_| SealingKeysError::Length)?,
        })
    }

    fn check(&self, purpose: &str, text: &[u8]) -> [u8; CHECK_LEN] {
        let mut context = hmac::Context::with_key(&self.check);
        context.update(&(purpose.len() as u64).to_be_bytes());
        context.update(purpose.as_bytes());
        context.update(text);
        let tag = context.sign();
        let mut check = [0; CHECK_LEN];
        check
            .iter_mut()
            .zip(tag.as_ref())
            .for_each(|(to, from)| *to = *from);
        check
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(keys: &[[u8; 32]]) -> SealingKeys {
        SealingKeys::new(keys).unwrap()
    }

    #[test]
    fn only_keys_of_32_bytes_that_differ_are_taken() {
        let none: [[u8; 32]; 0] = [];
        let refused = |keys: Result<SealingKeys, _>| keys.unwrap_err();
        assert_eq!(refused(SealingKeys::new(none)), SealingKeysError::Missing);
        for length in [0, 16, 31, 33, 64] {
            let key = vec![7; length];
            assert_eq!(refused(SealingKeys::new([key])), SealingKeysError::Length);
        }
        let twice = SealingKeys::new([[1; 32], [2; 32], [1; 32]]);
        assert_eq!(refused(twice), SealingKeysError::Repeated);
    }

    #[test]
    fn d7_64_what_the_old_key_sealed_opens_until_it_is_taken_away() {
        let (old, new) = ([1; 32], [2; 32]);
        let sealed = keys(&[old]).seal("a", b"plain");
        let both = keys(&[new, old]);
        assert_eq!(both.open("a", &sealed).unwrap(), b"plain");
        assert_eq!(keys(&[new]).open("a", &sealed), None);

        let sealed = both.seal("a", b"plain");
        assert_eq!(keys(&[new]).open("a", &sealed).unwrap(), b"plain");
        assert_eq!(keys(&[old]).open("a", &sealed), None);
    }

    #[test]
    fn d7_64_no_changed_character_and_no_part_opens() {
        let keys = keys(&[[1; 32]]);
        let sealed = keys.seal("a", b"plain");
        for place in 0..sealed.len() {
            assert_eq!(keys.open("a", &sealed[..place]), None, "cut at {place}");
            let mut bytes = sealed.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(keys.open("a", &changed), None, "changed at {place}");
        }
        for other in ["", ".", "v1", "v1.", "v1..", "v2.00000000.AAAA"] {
            assert_eq!(keys.open("a", other), None, "{other}");
        }
        for changed in [
            format!("{sealed}="),
            format!("{sealed}A"),
            format!(" {sealed}"),
        ] {
            assert_eq!(keys.open("a", &changed), None);
        }
    }

    #[test]
    fn a_check_holds_as_long_as_its_key_does() {
        let (old, new) = ([1; 32], [2; 32]);
        let check = keys(&[old]).check("a", b"text");
        assert!(keys(&[new, old]).is_check("a", b"text", &check));
        assert!(!keys(&[new]).is_check("a", b"text", &check));
        assert!(!keys(&[old]).is_check("b", b"text", &check));
        assert!(!keys(&[old]).is_check("a", b"texts", &check));
    }

    #[test]
    fn nothing_opens_for_another_purpose() {
        let keys = keys(&[[1; 32]]);
        assert_eq!(keys.open("b", &keys.seal("a", b"plain")), None);
    }

    #[test]
    fn nothing_is_sealed_alike_twice() {
        let keys = keys(&[[1; 32]]);
        assert_ne!(keys.seal("a", b"plain"), keys.seal("a", b"plain"));
    }

    #[test]
    fn d8_71_debug_shows_ids_only() {
        let shown = format!("{:?}", keys(&[[1; 32]]));
        assert_eq!(shown, r#"["72cd6e84"]"#, "sha256 of 32 bytes of 1");
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(purpose in ".{0,20}", plain in prop::collection::vec(any::<u8>(), 0..300)) {
            let keys = keys(&[[9; 32]]);
            prop_assert_eq!(keys.open(&purpose, &keys.seal(&purpose, &plain)), Some(plain));
        }

        #[test]
        fn no_other_text_opens(text in "(v1\\.72cd6e84\\.)?[A-Za-z0-9_.-]{0,120}") {
            prop_assert_eq!(keys(&[[1; 32]]).open("a", &text), None);
        }
    }
}
