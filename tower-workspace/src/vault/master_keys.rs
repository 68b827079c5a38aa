use std::{fmt, iter};

use aws_lc_rs::{
    aead::{AES_256_GCM, RandomizedNonceKey},
    digest::{Context, SHA256},
};
use thiserror::Error;
use zeroize::Zeroizing;

/// The master keys of a [`Vault`](super::Vault): the first seals, all of them open.
///
/// `Debug` shows their ids only, and their memory is wiped when they are dropped.
pub struct MasterKeys {
    pub(super) first: MasterKey,
    others: Vec<MasterKey>,
}

/// Which master key: 64 bits made from the key, that tell nothing of it. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MasterKeyId(pub(super) [u8; ID_LEN]);

/// Why a file has no master keys. It names the line, counted from 1, and shows nothing of it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum MasterKeysError {
    /// There is none.
    #[error("there is no master key")]
    Missing,
    /// A line has something other than digits, `a` to `f` and `A` to `F`.
    #[error("line {line} is not a master key: something in it is not a hexadecimal digit")]
    NotHexadecimal {
        /// The line.
        line: usize,
    },
    /// A line has fewer or more digits than a key.
    #[error("line {line} is not a master key: it has {digits} hexadecimal digits, not 64")]
    Length {
        /// The line.
        line: usize,
        /// How many digits it has.
        digits: usize,
    },
    /// A key is there twice.
    #[error("line {line} has the master key of line {first} again")]
    Repeated {
        /// The later line.
        line: usize,
        /// The earlier line.
        first: usize,
    },
}

pub(super) struct MasterKey {
    pub(super) id: MasterKeyId,
    /// Wiped by AWS-LC when it is freed, as all that it allocates.
    pub(super) key: RandomizedNonceKey,
}

// === impl MasterKeys ===

impl MasterKeys {
    /// Reads the content of a key file: one key of 32 bytes in each line, as the 64 hexadecimal digits
    /// that `openssl rand -hex 32` prints.
    ///
    /// Empty lines, space around a key, and what follows a `#` do not count. The keys need no names:
    /// a [`MasterKeyId`] is made from the key. To wipe the content is the caller's part.
    ///
    /// # Errors
    ///
    /// Every variant of [`MasterKeysError`], for the reason its name says.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_workspace::vault::{MasterKeys, MasterKeysError};
    ///
    /// let keys = MasterKeys::parse("
    ///     603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4 # since March: seals
    ///     000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f # before: opens
    /// ");
    /// assert!(keys.is_ok());
    ///
    /// let cut = MasterKeys::parse("603deb1015ca71be2b73aef0857d7781").unwrap_err();
    /// assert_eq!(cut, MasterKeysError::Length { line: 1, digits: 32 });
    /// ```
    pub fn parse(content: impl AsRef<[u8]>) -> Result<Self, MasterKeysError> {
        let mut held: Vec<(usize, MasterKey)> = Vec::new();
        for (line, text) in iter::zip(1.., content.as_ref().split(|byte| *byte == b'\n')) {
            let code = text.split(|byte| *byte == b'#').next().unwrap_or_default();
            let digits = code.trim_ascii();
            if digits.is_empty() {
                continue;
            }
            let key = MasterKey::parse(line, digits)?;
            if let Some((first, _)) = held.iter().find(|(_, other)| other.id == key.id) {
                let first = *first;
                return Err(MasterKeysError::Repeated { line, first });
            }
            held.push((line, key));
        }
        let mut keys = held.into_iter().map(|(_, key)| key);
        Ok(Self {
            first: keys.next().ok_or(MasterKeysError::Missing)?,
            others: keys.collect(),
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &MasterKey> {
        iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|key| key.id))
            .finish()
    }
}

// === impl MasterKey ===

impl MasterKey {
    fn parse(line: usize, digits: &[u8]) -> Result<Self, MasterKeysError> {
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(MasterKeysError::NotHexadecimal { line });
        }
        let length = MasterKeysError::Length {
            line,
            digits: digits.len(),
        };
        if digits.len() != 2 * KEY_LEN {
            return Err(length);
        }
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        let (pairs, _) = digits.as_chunks();
        for (byte, [high, low]) in iter::zip(bytes.iter_mut(), pairs) {
            *byte = value(*high) << 4 | value(*low);
        }

        let mut hash = Context::new(&SHA256);
        hash.update(ID_PREFIX);
        hash.update(&*bytes);
        let mut id = [0; ID_LEN];
        iter::zip(&mut id, hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Ok(Self {
            id: MasterKeyId(id),
            // It refuses other lengths only.
            key: RandomizedNonceKey::new(&AES_256_GCM, &*bytes).map_err(|_| length)?,
        })
    }
}

/// Of a hexadecimal digit.
fn value(digit: u8) -> u8 {
    let value = char::from(digit).to_digit(16);
    value.map_or(0, |value| value as u8)
}

// === impl MasterKeyId ===

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Of a key of AES-256, in bytes.
const KEY_LEN: usize = 32;

/// Of an id, in bytes: two keys of one file share one by accident in 2^64 files.
const ID_LEN: usize = 8;

/// Before the key when its id is made, so that the id is of no use for anything else that hashes the
/// key.
const ID_PREFIX: &[u8] = b"tower-workspace master key";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
    const B: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn ids(content: &str) -> Vec<String> {
        let keys = MasterKeys::parse(content).unwrap();
        keys.iter().map(|key| key.id.to_string()).collect()
    }

    fn refused(content: impl AsRef<[u8]>) -> MasterKeysError {
        MasterKeys::parse(content).unwrap_err()
    }

    #[test]
    fn d8_69_a_file_has_keys_comments_and_empty_lines() {
        let both = [ids(A), ids(B)].concat();
        for content in [
            format!("{A}\n{B}"),
            format!("{A}\n{B}\n"),
            format!("{A}\r\n{B}\r\n"),
            format!("\n\n# one\n  {A}\t\n#{A}\n\n{B} # since 2026\n\n#"),
            format!("{}\n{B}", A.to_uppercase()),
        ] {
            assert_eq!(ids(&content), both, "{content:?}");
        }
    }

    /// `printf 'tower-workspace master key' | cat - key.bin | sha256sum | cut -c -16`
    #[test]
    fn d8_69_the_id_of_a_key_never_changes() {
        assert_eq!(ids(A), ["0186a0ed75b1dc95"]);
        assert_eq!(ids(B), ["7e5c997ef1f8d588"]);
    }

    #[test]
    fn d8_69_a_file_without_keys_is_refused() {
        for content in ["", "\n", " \t\r\n", "# nothing\n\n", &format!("#{A}")] {
            assert_eq!(refused(content), MasterKeysError::Missing, "{content:?}");
        }
    }

    #[test]
    fn d8_69_a_line_of_another_length_is_refused() {
        for digits in [1, 32, 62, 63, 65, 66, 128, 1 << 20] {
            let content = format!("{A}\n\n{}\n", "a".repeat(digits));
            let length = MasterKeysError::Length { line: 3, digits };
            assert_eq!(refused(content), length);
        }
        let one_line = MasterKeysError::Length {
            line: 1,
            digits: 128,
        };
        assert_eq!(refused(format!("{A}{B}")), one_line);
    }

    #[test]
    fn d8_69_a_line_of_other_characters_is_refused() {
        for text in [
            &format!("0x{A}"),
            &format!("{}g", &A[..63]),
            &format!("{A} {B}"),
            &format!("\u{feff}{A}"),
            &A.replace('6', "٦"),
            "key",
            "-----BEGIN PRIVATE KEY-----",
        ] {
            let content = format!("# first\n{text}\n");
            let refused = refused(&content);
            assert_eq!(refused, MasterKeysError::NotHexadecimal { line: 2 });
        }
        assert_eq!(
            refused(b"\xff\xfe\x00"),
            MasterKeysError::NotHexadecimal { line: 1 }
        );
    }

    #[test]
    fn d8_69_a_key_that_is_there_twice_is_refused_however_it_is_written() {
        let content = format!("# first\n{A}\n{B}\n {}", A.to_uppercase());
        let repeated = MasterKeysError::Repeated { line: 4, first: 2 };
        assert_eq!(refused(content), repeated);
    }

    #[test]
    fn d8_71_no_error_shows_anything_of_a_key() {
        for content in [
            A[..63].to_owned(),
            format!("{A}0"),
            format!("{A}g"),
            format!("{A}\n{A}"),
        ] {
            let error = refused(&content);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&A[..8]), "{shown}");
        }
    }

    #[test]
    fn d8_71_debug_shows_ids_only() {
        let keys = MasterKeys::parse(format!("{A}\n{B}")).unwrap();
        assert_eq!(format!("{keys:?}"), "[0186a0ed75b1dc95, 7e5c997ef1f8d588]");
    }

    proptest! {
        #[test]
        fn d8_69_any_keys_are_read_in_their_order(keys in prop::collection::hash_set("[0-9a-f]{64}", 1..8)) {
            let keys: Vec<String> = keys.into_iter().collect();
            let each: Vec<String> = keys.iter().flat_map(|key| ids(key)).collect();
            prop_assert_eq!(ids(&keys.join("\n")), each);
        }

        #[test]
        fn d8_69_any_bytes_are_keys_or_an_error(content in prop::collection::vec(any::<u8>(), 0..300)) {
            // Random bytes do not meet 64 hexadecimal digits.
            prop_assert!(MasterKeys::parse(content).is_err());
        }

        #[test]
        fn d8_69_lines_almost_as_they_should_be_are_keys_or_an_error(content in "([0-9a-fA-F]{62,66}|[ #\r]|\n){0,6}") {
            let whole = |line: &str| {
                let code = line.split('#').next().unwrap().trim();
                (!code.is_empty()).then(|| code.len() == 64 && code.bytes().all(|b| b.is_ascii_hexdigit()))
            };
            let lines: Vec<bool> = content.split('\n').filter_map(whole).collect();
            let good = !lines.is_empty() && lines.iter().all(|whole| *whole);
            prop_assert_eq!(MasterKeys::parse(&content).is_ok(), good);
        }
    }
}
