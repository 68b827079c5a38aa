use std::{fmt::Write as _, sync::Arc};

use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use crate::llm::Api;

/// The header by which a client says which requests are one and the same (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longer keys are none.
const MOST: usize = 255;

/// What a call has in common with its repetitions and with nothing else of its subject: a hash of the key that its client
/// gave it, its API and its body. `None` without exactly one key.
///
/// The body is part of it, so that a key that is used for another request names another call, and not one that was paid
/// for.
pub(super) fn repeatable(headers: &HeaderMap, api: Api, body: &[u8]) -> Option<Arc<str>> {
    let key = headers.get(&IDEMPOTENCY_KEY)?;
    let is_alone = headers.get_all(&IDEMPOTENCY_KEY).iter().nth(1).is_none();
    if !is_alone || key.is_empty() || key.len() > MOST {
        return None;
    }
    let mut hash = Sha256::new();
    let api = api.to_string();
    for part in [key.as_bytes(), api.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut hex = String::with_capacity(64);
    for byte in hash.finalize() {
        // Never fails: a string takes everything.
        let _ = write!(hex, "{byte:02x}");
    }
    Some(hex.into())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn hash(keys: &[&str], api: Api, body: &str) -> Option<Arc<str>> {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_str(key).unwrap());
        }
        repeatable(&headers, api, body.as_bytes())
    }

    #[test]
    fn d6_59_one_key_names_one_request_and_no_other() {
        let one = hash(&["k"], Api::Messages, "{}").unwrap();
        assert_eq!(one.len(), 64);
        assert_eq!(hash(&["k"], Api::Messages, "{}").unwrap(), one);
        for other in [
            hash(&["l"], Api::Messages, "{}"),
            hash(&["k"], Api::Responses, "{}"),
            hash(&["k"], Api::Messages, "{} "),
        ] {
            assert_ne!(other.unwrap(), one);
        }
        let long = "k".repeat(256);
        for keys in [&[][..], &[""], &["k", "k"], &[&long]] {
            assert_eq!(hash(keys, Api::Messages, "{}"), None);
        }
    }
}
