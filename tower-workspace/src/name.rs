use std::{fmt, path::Path, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;

/// The name of a user's directory: one path component made from a user id.
///
/// A *plain* id, `[a-z0-9][a-z0-9_-]{0,63}` and not the name of a Windows device, is its own
/// directory name. Every other id becomes `_<slug>-<hash>`: what is readable of it, and 130 bits
/// of its SHA-256 in base32.
///
/// The name is always `[a-z0-9_][a-z0-9_-]{0,63}`, so it cannot leave its parent, be taken for an
/// option, be hidden, or meet another name on a file system that ignores case. Two ids never
/// share a name: a plain id cannot start with `_`, so the two forms are disjoint; plain names are
/// the ids themselves; and hashed names that are equal would be a collision of the hash. The
/// mapping is part of this crate's stable interface: it never changes.
///
/// # Examples
///
/// ```
/// use tower_workspace::DirectoryName;
///
/// # fn main() -> Result<(), tower_workspace::NameError> {
/// assert_eq!(DirectoryName::for_user("alice")?.as_str(), "alice");
/// assert_eq!(
///     DirectoryName::for_user("auth0|123")?.as_str(),
///     "_auth0-123-ibbuixvn53vsuxmillz4cm7wb3",
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DirectoryName(Arc<str>);

/// Why a user id can have no directory.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum NameError {
    /// The id is empty.
    #[error("user id is empty")]
    Empty,
    /// The id contains a NUL character.
    #[error("user id contains a NUL character")]
    Nul,
    /// The id is longer than 4096 bytes.
    #[error("user id of {length} bytes is longer than 4096")]
    TooLong {
        /// Length of the refused id in bytes.
        length: usize,
    },
}

// === impl DirectoryName ===

impl DirectoryName {
    /// The directory name of a user.
    ///
    /// # Errors
    ///
    /// Every variant of [`NameError`], for the reason its name says.
    pub fn for_user(user_id: &str) -> Result<Self, NameError> {
        if user_id.is_empty() {
            return Err(NameError::Empty);
        }
        if user_id.len() > USER_ID_MAX {
            return Err(NameError::TooLong {
                length: user_id.len(),
            });
        }
        if user_id.contains('\0') {
            return Err(NameError::Nul);
        }
        Ok(Self(if is_plain(user_id) {
            user_id.into()
        } else {
            hashed(user_id).into()
        }))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for DirectoryName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for DirectoryName {
    fn as_ref(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl fmt::Debug for DirectoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for DirectoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain(user_id: &str) -> bool {
    let bytes = user_id.as_bytes();
    bytes.len() <= PLAIN_MAX
        && bytes
            .first()
            .is_some_and(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'))
        && bytes
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        && !is_windows_device(user_id)
}

/// Names that Windows takes for a device in every directory ("Naming Files, Paths, and
/// Namespaces", Microsoft Learn). Those with superscript digits are not plain anyway.
fn is_windows_device(name: &str) -> bool {
    match name.as_bytes() {
        b"con" | b"prn" | b"aux" | b"nul" => true,
        [b'c', b'o', b'm', digit] | [b'l', b'p', b't', digit] => digit.is_ascii_digit(),
        _ => false,
    }
}

/// `_<slug>-<hash>`, or `_<hash>` where nothing of the id is readable. The leading `_` is what no
/// plain id has.
fn hashed(user_id: &str) -> String {
    let mut name = String::with_capacity(1 + SLUG_MAX + 1 + HASH_CHARS);
    name.push('_');
    for c in user_id.chars() {
        if name.len() == 1 + SLUG_MAX {
            break;
        }
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.ends_with(['_', '-']) {
            name.push('-');
        }
    }
    if name.len() > 1 && !name.ends_with('-') {
        name.push('-');
    }
    push_base32(&mut name, digest(&SHA256, user_id.as_bytes()).as_ref());
    name
}

/// The first [`HASH_CHARS`] digits of `bytes` in the alphabet of RFC 4648 section 6, lower case.
fn push_base32(name: &mut String, bytes: &[u8]) {
    let digits = (0..HASH_CHARS).map(|i| {
        let bit = i * 5;
        let pair = bytes.iter().skip(bit / 8).take(2);
        let window = pair.fold(0u16, |window, byte| window << 8 | u16::from(*byte));
        (window >> (11 - bit % 8) & 31) as u8
    });
    name.extend(digits.map(|digit| {
        char::from(match digit {
            0..26 => b'a' + digit,
            _ => b'2' + (digit - 26),
        })
    }));
}

/// Longest accepted id: longer than the subject of any known identity provider, and small enough
/// to be hashed and stored without a thought.
const USER_ID_MAX: usize = 4096;

/// Longest id that is its own directory name.
const PLAIN_MAX: usize = 64;

/// Longest readable part of a hashed name: `user-` and the whole name fit in 64 bytes.
const SLUG_MAX: usize = 31;

/// 130 bits: finding two ids with one name takes about 2^65 attempts.
const HASH_CHARS: usize = 26;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(user_id: &str) -> String {
        DirectoryName::for_user(user_id).unwrap().to_string()
    }

    #[test]
    fn keeps_a_plain_id() {
        let longest = "a".repeat(64);
        for id in ["alice", "0", "a_b-c", "user-42", "trailing-", &longest] {
            assert_eq!(name(id), id);
        }
    }

    #[test]
    fn d4_40_hashes_every_other_id_into_one_safe_component() {
        let long = "x".repeat(255);
        let longer = "x".repeat(256);
        let longest = "ä".repeat(2048);
        let ids = [
            "..",
            ".",
            "a/b",
            "a\\b",
            "/etc",
            "~",
            "a\nb",
            "CON",
            "con",
            "nul",
            "com1",
            "lpt9",
            "a.",
            "a ",
            " a",
            &long,
            &longer,
            &longest,
            "😀",
            "caf\u{e9}",
            "cafe\u{301}",
            "a\u{202e}b",
            "Alice",
            "auth0|123",
            "google-oauth2|9",
            "%2e%2e",
            "-rf",
            "_x",
            "con.txt",
        ];
        for id in ids {
            let name = name(id);
            assert!(name.starts_with('_'), "{id:?} -> {name}");
            assert_safe(&name);
        }
    }

    #[test]
    fn d4_40_refuses_ids_that_can_have_no_directory() {
        assert_eq!(DirectoryName::for_user(""), Err(NameError::Empty));
        assert_eq!(DirectoryName::for_user("a\0b"), Err(NameError::Nul));
        assert_eq!(
            DirectoryName::for_user(&"x".repeat(4097)),
            Err(NameError::TooLong { length: 4097 })
        );
        assert!(DirectoryName::for_user(&"x".repeat(4096)).is_ok());
    }

    #[test]
    fn d4_41_twins_of_case_and_normal_form_stay_apart() {
        let twins = ["alice", "Alice", "ALICE", "alice ", "al\u{131}ce", "ａlice"];
        let forms = ["caf\u{e9}", "cafe\u{301}", "CAF\u{c9}"];
        for group in [&twins[..], &forms[..]] {
            for (i, a) in group.iter().enumerate() {
                for b in &group[..i] {
                    assert_ne!(name(a), name(b), "{a:?} and {b:?}");
                }
            }
        }
    }

    #[test]
    fn d4_41_an_id_that_imitates_a_hashed_name_is_hashed_itself() {
        let hashed = name("auth0|123");
        let twice = name(&hashed);
        assert_ne!(twice, hashed);
        assert_ne!(name(hashed.trim_start_matches('_')), hashed);
        assert_safe(&twice);
    }

    #[test]
    fn d4_41_the_mapping_never_changes() {
        for (id, expected) in [
            ("auth0|123", "_auth0-123-ibbuixvn53vsuxmillz4cm7wb3"),
            ("Alice", "_alice-hpcrayuxhrcy2wtpfwgwjibder"),
            ("..", "_l3a7pzya6n6d2czjqhieqvp4gs"),
            ("con", "_con-cfb5uk6fjrevys7ddu4gq6c5hh"),
            ("-rf", "_rf-nbwdtlgwgj532ld4hlxkhaxgb5"),
            (
                "jane.doe@example.com",
                "_jane-doe-example-com-q3qltzlmc7ge2erypymutocqkp",
            ),
            ("😀", "_6bcdunbml32upa5bcg2rxjlmso"),
        ] {
            assert_eq!(name(id), expected);
        }
    }

    proptest! {
        #[test]
        fn d4_41_two_ids_never_share_a_name(a in any_id(), b in any_id()) {
            prop_assert_eq!(a == b, name(&a) == name(&b));
        }

        #[test]
        fn d4_41_an_id_and_its_variants_never_share_a_name(id in any_id(), tail in "[ .\\-_|A-Z]") {
            for twin in [id.to_uppercase(), id.to_lowercase(), format!("{id}{tail}"), format!("{tail}{id}")] {
                prop_assert_eq!(id == twin, name(&id) == name(&twin));
            }
        }

        #[test]
        fn d4_40_every_name_is_one_safe_component(id in any_id()) {
            assert_safe(&name(&id));
        }
    }

    fn any_id() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9_-]{1,70}",
            "_[a-z0-9-]{0,31}-[a-z2-7]{26}",
            "[^\\x00]{1,100}",
            "\\PC{1,40}",
        ]
    }

    fn assert_safe(name: &str) {
        assert!(name.len() <= 64, "{name} is too long");
        assert!(name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        assert!(
            name.bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')),
            "{name} leaves the alphabet"
        );
        assert!(!is_windows_device(name), "{name} is a device");
    }
}
