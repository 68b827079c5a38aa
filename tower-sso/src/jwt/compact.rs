use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{algorithm::Algorithm, config::JwtConfig, json::parse_object};
use crate::Reason;

/// A signed token, taken apart and not yet verified (RFC 7515 section 7.1).
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) header: Header,
    /// The claims, decoded: JSON text.
    pub(super) payload: String,
    /// What was signed: header and payload as they came.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

/// What of the header counts. Members that would bring keys along (`jku`, `jwk`, `x5u`, `x5c`) are
/// not read at all.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) kind: Option<String>,
}

// === impl Compact ===

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Reason> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Reason::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Reason::Malformed)?;
        // A further dot is in the payload, where base64url has none.
        let signature = decode(signature)?;
        if signature.is_empty() {
            return Err(Reason::Malformed);
        }
        Ok(Self {
            header: Header::parse(&decode_text(header)?)?,
            payload: decode_text(payload)?,
            signed: signed.as_bytes(),
            signature,
        })
    }
}

// === impl Header ===

/// Members that change what the signature means. `crit` names extensions that must be understood
/// (RFC 7515 section 4.1.11), and none is; the others are never used without it or belong to
/// encryption.
const EXTENSIONS: [&str; 4] = ["crit", "b64", "enc", "zip"];

impl Header {
    fn parse(json: &str) -> Result<Self, Reason> {
        let mut members = parse_object(json).ok_or(Reason::Malformed)?;
        if EXTENSIONS.iter().any(|name| members.contains_key(*name)) {
            return Err(Reason::Critical);
        }
        let algorithm = take_string(&mut members, "alg")?
            .and_then(|name| Algorithm::from_name(&name))
            .ok_or(Reason::Algorithm)?;
        Ok(Self {
            algorithm,
            key_id: take_string(&mut members, "kid")?,
            kind: take_string(&mut members, "typ")?,
        })
    }

    /// Holds the header against the rules.
    pub(super) fn check(&self, config: &JwtConfig) -> Result<(), Reason> {
        if !config.algorithms.contains(&self.algorithm) {
            return Err(Reason::Algorithm);
        }
        // RFC 7515 section 4.1.9: a media type, compared without case, `application/` left out.
        let kind = self.kind.as_deref().map(without_application);
        let is = |wanted: &str| kind.is_some_and(|kind| kind.eq_ignore_ascii_case(wanted));
        let fits = match &config.required_type {
            Some(required) => is(without_application(required)),
            None => kind.is_none() || is("JWT") || is("at+jwt"),
        };
        if fits { Ok(()) } else { Err(Reason::Type) }
    }
}

pub(super) fn without_application(media_type: &str) -> &str {
    match media_type.split_at_checked("application/".len()) {
        Some((tree, name)) if tree.eq_ignore_ascii_case("application/") => name,
        _ => media_type,
    }
}

fn take_string(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Reason> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(_) => Err(Reason::Malformed),
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Malformed)
}

fn decode_text(part: &str) -> Result<String, Reason> {
    String::from_utf8(decode(part)?).map_err(|_| Reason::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", encode(header), encode(payload), encode("sig"))
    }

    fn reason(token: &str) -> Option<Reason> {
        Compact::parse(token).err()
    }

    #[test]
    fn takes_a_token_apart() {
        let token = token(
            r#"{"alg":"ES256","kid":"k","typ":"JWT","x":1}"#,
            r#"{"a":1}"#,
        );
        let compact = Compact::parse(&token).unwrap();
        assert_eq!(compact.header.algorithm, Algorithm::ES256);
        assert_eq!(compact.header.key_id.as_deref(), Some("k"));
        assert_eq!(compact.header.kind.as_deref(), Some("JWT"));
        assert_eq!(compact.payload, r#"{"a":1}"#);
        assert_eq!(compact.signature, b"sig");
        assert!(token.as_bytes().starts_with(compact.signed));
    }

    #[test]
    fn d1_12_only_three_canonical_parts_are_a_token() {
        let good = token(r#"{"alg":"ES256"}"#, "{}");
        assert_eq!(reason(&good), None);
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let (header, payload) = signed.split_once('.').unwrap();
        for bad in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            signed.to_owned(),
            format!("{signed}."),
            format!("{good}."),
            format!(".{good}"),
            format!("{header}..{payload}.{signature}"),
            format!("{header}.{payload}.{signature}.{signature}.{signature}"),
            format!("{good}="),
            format!("{good} "),
            format!(" {good}"),
            format!("{header}.{payload}\n.{signature}"),
            format!("{header}=.{payload}.{signature}"),
            // The last character carries bits that no byte has.
            format!("{header}.{payload}.{}", signature.replace('n', "o") + "x"),
            format!("{signed}.c2lnB"),
            format!("{signed}.c2ln+/"),
            r#"{"payload":"e30","signatures":[]}"#.to_owned(),
        ] {
            assert_eq!(reason(&bad), Some(Reason::Malformed), "{bad:?}");
        }
        assert_eq!(
            reason(&format!("{signed}.AB")),
            Some(Reason::Malformed),
            "trailing bits must be zero"
        );
    }

    #[test]
    fn d1_10_a_header_member_twice_is_refused() {
        for header in [
            r#"{"alg":"ES256","alg":"ES256"}"#,
            r#"{"alg":"none","al\u0067":"ES256"}"#,
            r#"{"alg":"ES256","kid":"a","kid":"b"}"#,
            r#"{"alg":"ES256","jwk":{"kty":"EC","kty":"RSA"}}"#,
        ] {
            assert_eq!(
                reason(&token(header, "{}")),
                Some(Reason::Malformed),
                "{header}"
            );
        }
    }

    #[test]
    fn a_header_member_of_the_wrong_type_is_refused() {
        for header in [
            r#"{"alg":["ES256"]}"#,
            r#"{"alg":null}"#,
            r#"{"alg":"ES256","kid":1}"#,
            r#"{"alg":"ES256","kid":null}"#,
            r#"{"alg":"ES256","typ":{}}"#,
        ] {
            assert_eq!(
                reason(&token(header, "{}")),
                Some(Reason::Malformed),
                "{header}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_any_string(token in ".{0,128}") {
            let _ = Compact::parse(&token);
        }

        #[test]
        fn never_panics_on_any_parts(
            header in prop::collection::vec(any::<u8>(), 0..64),
            payload in prop::collection::vec(any::<u8>(), 0..64),
            signature in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let encode = |bytes| URL_SAFE_NO_PAD.encode(bytes);
            let token = format!("{}.{}.{}", encode(header), encode(payload), encode(signature));
            let _ = Compact::parse(&token);
        }

        #[test]
        fn one_token_has_one_spelling(flip in 0usize..40, byte in any::<char>()) {
            // Another string of the same length never parses into the same parts.
            let good = token(r#"{"alg":"ES256"}"#, r#"{"a":1}"#);
            let mut characters: Vec<char> = good.chars().collect();
            let place = flip % characters.len();
            characters[place] = byte;
            let other: String = characters.into_iter().collect();
            if other != good
                && let Ok(changed) = Compact::parse(&other)
            {
                let first = Compact::parse(&good).unwrap();
                prop_assert!(
                    changed.signed != first.signed || changed.signature != first.signature
                );
            }
        }
    }
}
