//! What binds a callback to the browser, the request and the token that belong to it.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::failure::Failure;

/// A new `state`, `nonce` or PKCE code verifier: 32 random bytes as 43 characters, what RFC 7636
/// section 4.1 recommends for the last of them.
pub(super) fn random() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| Failure::Internal)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether a text could be one that [`random`] made.
pub(super) fn is_random(text: &str) -> bool {
    text.len() == LENGTH
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The code challenge of a verifier by the method `S256` (RFC 7636 section 4.2).
pub(super) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// Whether two texts are the same, in a time that tells nothing but their length.
pub(super) fn is_same(left: &str, right: &str) -> bool {
    verify_slices_are_equal(left.as_bytes(), right.as_bytes()).is_ok()
}

/// Characters of base64url for 32 bytes.
const LENGTH: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        // RFC 7636 appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn random_texts_differ_and_are_recognised() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert!(is_random(&one) && is_random(&other));
        assert!(!is_same(&one, &other));
        assert!(is_same(&one, &one.clone()));
        for text in [
            "",
            "short",
            &one[1..],
            &format!("{one}a"),
            &one.replace(&one[..1], "+"),
        ] {
            assert!(!is_random(text), "{text}");
        }
    }
}
