use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tower_sso::{Identity, Reason, Verify, VerifyError, VerifyFuture};

use crate::config::Secret;
use crate::store::VirtualKeyRow;

/// How every virtual key begins, so that one that leaked is recognised as ours.
const PREFIX: &str = "ocg-vk-";

/// Bytes of randomness in a key.
const KEY_LEN: usize = 32;

/// The virtual keys in force; clones share them. Keys are looked up by their hash: comparing one takes the same time
/// however much of it was guessed, and a copy of the table opens nothing.
#[derive(Clone, Default)]
pub struct VirtualKeys {
    by_hash: Arc<RwLock<HashMap<[u8; 32], Admitted>>>,
}

#[derive(Clone)]
struct Admitted {
    owner: Arc<Identity>,
    key_id: String,
}

/// A new key, shown this once.
#[derive(Debug)]
pub struct MintedKey {
    /// What the store keeps.
    pub row: VirtualKeyRow,
    /// What the instance gets.
    pub key: Secret,
}

// === impl VirtualKeys ===

impl VirtualKeys {
    /// The keys from the store.
    #[must_use]
    pub fn new(rows: &[VirtualKeyRow]) -> Self {
        let keys = Self::default();
        for row in rows {
            keys.admit(row);
        }
        keys
    }

    /// A new key for somebody, not in force yet.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn mint(&self, user_id: &Arc<str>) -> Result<MintedKey, Unspecified> {
        let mut random = [0; KEY_LEN];
        aws_lc_rs::rand::fill(&mut random)?;
        let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let row = VirtualKeyRow {
            key_id: uuid::Uuid::now_v7().simple().to_string(),
            user_id: Arc::clone(user_id),
            hash: hash(&key),
        };
        Ok(MintedKey {
            row,
            key: Secret::new(key),
        })
    }

    /// Puts a key in force.
    pub fn admit(&self, row: &VirtualKeyRow) {
        let identity =
            Identity::builder("urn:gateway:virtual-key", Arc::clone(&row.user_id)).build();
        let mut keys = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(
            row.hash,
            Admitted {
                owner: Arc::new(identity),
                key_id: row.key_id.clone(),
            },
        );
    }

    /// Ends all keys of the owner of `row` but this one.
    pub fn keep_only(&self, row: &VirtualKeyRow) {
        let mut keys = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|hash, key| key.owner.user_id() != &row.user_id || *hash == row.hash);
    }

    /// The id of the key of somebody.
    #[must_use]
    pub fn find_key_id(&self, user_id: &Arc<str>) -> Option<String> {
        let keys = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        keys.values()
            .find(|key| key.owner.user_id() == user_id)
            .map(|key| key.key_id.clone())
    }
}

impl Verify for VirtualKeys {
    fn verify(&self, token: &str) -> VerifyFuture {
        let keys = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        VerifyFuture::ready(match keys.get(&hash(token)) {
            Some(key) => Ok(Arc::clone(&key.owner)),
            None => Err(VerifyError::Invalid(Reason::UnknownKey)),
        })
    }
}

impl fmt::Debug for VirtualKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualKeys").finish_non_exhaustive()
    }
}

fn hash(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_keys_in_force_are_known() {
        let keys = VirtualKeys::default();
        let (old, new) = (
            keys.mint(&"alice".into()).unwrap(),
            keys.mint(&"alice".into()).unwrap(),
        );
        let bob = keys.mint(&"bob".into()).unwrap();
        assert!(
            keys.verify(old.key.expose()).await.is_err(),
            "minted is not admitted"
        );
        for minted in [&old, &new, &bob] {
            keys.admit(&minted.row);
        }
        assert_eq!(
            &**keys.verify(old.key.expose()).await.unwrap().user_id(),
            "alice"
        );
        keys.keep_only(&new.row);
        assert!(
            keys.verify(old.key.expose()).await.is_err(),
            "an agent that was made anew has one key"
        );
        assert!(keys.verify(new.key.expose()).await.is_ok());
        assert_eq!(
            &**keys.verify(bob.key.expose()).await.unwrap().user_id(),
            "bob"
        );
        assert!(keys.verify("").await.is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        let minted = VirtualKeys::default().mint(&"alice".into()).unwrap();
        assert!(!format!("{minted:?}").contains(minted.key.expose()));
    }
}
