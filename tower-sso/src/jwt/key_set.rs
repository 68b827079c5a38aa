use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    algorithm::Algorithm,
    key::{Jwk, VerifyingKey},
};
use crate::Reason;

/// The keys tokens of the issuer may be signed with.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<(KeyId, VerifyingKey)>,
}

#[derive(Debug)]
enum KeyId {
    /// The one static key: a token may call it anything.
    Any,
    Named(String),
    Unnamed,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

// === impl KeySet ===

impl KeySet {
    /// A set of one key, whatever a token calls it.
    pub(super) fn single(key: VerifyingKey) -> Self {
        Self {
            keys: vec![(KeyId::Any, key)],
        }
    }

    /// Reads the usable keys of a published set (RFC 7517 section 5); `None` if there are none.
    ///
    /// A key that cannot be used does not spoil the others, as the section says.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let document: Document<'_> = serde_json::from_slice(json).ok()?;
        let keys: Vec<_> = document
            .keys
            .into_iter()
            .filter_map(|text| {
                let jwk: Jwk = serde_json::from_str(text.get()).ok()?;
                let key = jwk.to_key()?;
                Some((jwk.into_key_id().map_or(KeyId::Unnamed, KeyId::Named), key))
            })
            .collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// The one key a token with this header must be signed by.
    ///
    /// # Errors
    ///
    /// [`Reason::UnknownKey`] if there is none, or more than one: which of them signed would be the
    /// sender's choice. [`Reason::Algorithm`] if the key it names is for another algorithm.
    pub(super) fn find(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&VerifyingKey, Reason> {
        let mut named = false;
        let mut found = None;
        for (id, key) in &self.keys {
            match (id, key_id) {
                (KeyId::Any, _) => named = true,
                (KeyId::Named(id), Some(wanted)) if id == wanted => named = true,
                (_, None) => {}
                (_, Some(_)) => continue,
            }
            if key.serves(algorithm) && found.replace(key).is_some() {
                return Err(Reason::UnknownKey);
            }
        }
        found.ok_or(if named {
            Reason::Algorithm
        } else {
            Reason::UnknownKey
        })
    }

    pub(super) fn serves_any(&self, algorithms: &[Algorithm]) -> bool {
        self.keys
            .iter()
            .any(|(_, key)| algorithms.iter().any(|algorithm| key.serves(*algorithm)))
    }
}
