use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use tower_sso::{Identity, Reason, Verify, VerifyError, VerifyFuture};

use super::elsewhere::Elsewhere;
use crate::config::Secret;
use crate::follow::{Hearing, follow};
use crate::store::{KeyChange, Store, StoreError, VirtualKeyRow};

/// How every virtual key begins, so that one that leaked is recognised as ours.
const PREFIX: &str = "ocg-vk-";

/// Bytes of randomness in a key.
const KEY_LEN: usize = 32;

/// The virtual keys in force; clones share them. Keys are looked up by their hash: comparing one takes the same time
/// however much of it was guessed, and a copy of the table opens nothing.
///
/// Where gateways share a store, a key that another has made is asked for when it comes here first, and one that another
/// has ended ends here within some seconds: what has changed is heard again and again, so that no request waits for it.
#[derive(Clone, Default)]
pub struct VirtualKeys(Arc<Inner>);

#[derive(Default)]
struct Inner {
    known: RwLock<Known>,
    elsewhere: Option<Elsewhere>,
}

#[derive(Default)]
struct Known {
    owners: HashMap<[u8; 32], Arc<Identity>>,
    /// By user: id and hash of each key.
    of: HashMap<Arc<str>, BTreeMap<String, [u8; 32]>>,
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
    /// The keys that the store has. If it is shared, what others do there is heard as long as the keys are used, in a task
    /// of the current runtime.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn load(store: Store) -> Result<Self, StoreError> {
        let since = store.time().await?;
        let elsewhere = store.is_shared().then(|| Elsewhere::new(store.clone()));
        let keys = Self(Arc::new(Inner {
            known: RwLock::default(),
            elsewhere,
        }));
        for row in store.virtual_keys().await? {
            keys.admit(&row);
        }
        if store.is_shared() {
            let known = Arc::downgrade(&keys.0);
            tokio::spawn(follow(store, since, known, hear));
        }
        Ok(keys)
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
            agent: None,
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
        let mut known = self.write();
        known.owners.insert(row.hash, Arc::new(identity));
        let of_user = known.of.entry(Arc::clone(&row.user_id)).or_default();
        of_user.insert(row.key_id.clone(), row.hash);
    }

    /// Ends all keys of the owner of `row` but this one.
    pub fn keep_only(&self, row: &VirtualKeyRow) {
        self.write()
            .end(&row.user_id, |key_id, _| key_id != row.key_id);
    }

    /// Ends all keys of somebody.
    pub fn end_all_of(&self, user_id: &str) {
        self.write().end(user_id, |_, _| true);
    }

    /// The id of the newest key of somebody.
    #[must_use]
    pub fn find_key_id(&self, user_id: &str) -> Option<String> {
        // Ids begin with the time.
        let known = self.read();
        let (key_id, _) = known.of.get(user_id)?.last_key_value()?;
        Some(key_id.clone())
    }

    /// Whether somebody has a key.
    #[must_use]
    pub fn has_key(&self, user_id: &str) -> bool {
        self.read().of.contains_key(user_id)
    }

    pub(super) fn find_owner(&self, hash: &[u8; 32]) -> Option<Arc<Identity>> {
        self.read().owners.get(hash).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        let known = self.0.known.read();
        known.unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        let known = self.0.known.write();
        known.unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Known ===

impl Known {
    /// Ends those keys of somebody that `which` says.
    fn end(&mut self, user_id: &str, which: impl Fn(&str, &[u8; 32]) -> bool) {
        let Some(keys) = self.of.get_mut(user_id) else {
            return;
        };
        keys.retain(|key_id, hash| {
            let ends = which(key_id, hash);
            if ends {
                self.owners.remove(hash);
            }
            !ends
        });
        if keys.is_empty() {
            self.of.remove(user_id);
        }
    }
}

impl Verify for VirtualKeys {
    fn verify(&self, token: &str) -> VerifyFuture {
        let hash = hash(token);
        if let Some(owner) = self.find_owner(&hash) {
            return VerifyFuture::ready(Ok(owner));
        }
        match &self.0.elsewhere {
            Some(elsewhere) if is_formed(token) => {
                VerifyFuture::boxed(elsewhere.find(hash, self.clone()))
            }
            _ => VerifyFuture::ready(Err(VerifyError::Invalid(Reason::UnknownKey))),
        }
    }
}

impl fmt::Debug for VirtualKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualKeys").finish_non_exhaustive()
    }
}

/// Learns what other gateways have done. What was read just before it changed is put right the next time.
fn hear(store: Store, since: SystemTime, known: Arc<Inner>) -> Hearing {
    async move {
        let keys = VirtualKeys(known);
        for change in store.virtual_keys_since(since).await? {
            match change {
                KeyChange::Made(row) => keys.admit(&row),
                KeyChange::Revoked(row) => {
                    keys.write().end(&row.user_id, |_, hash| *hash == row.hash);
                }
            }
        }
        Ok(())
    }
    .boxed()
}

/// Whether it looks like a key of ours.
fn is_formed(key: &str) -> bool {
    let random = key.strip_prefix(PREFIX);
    random.is_some_and(|random| random.len() == (KEY_LEN * 4).div_ceil(3))
}

fn hash(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::store::testing::{Database, environment, person};

    async fn keep(store: &Store, minted: &MintedKey) {
        let user_id = &minted.row.user_id;
        store.put_user(&person(user_id)).await.unwrap();
        let put = store.put_environment(environment(user_id), minted.row.clone());
        put.await.unwrap();
    }

    #[tokio::test]
    async fn keys_that_another_gateway_makes_and_ends_begin_and_end_here() {
        let Some(database) = Database::new().await else {
            return;
        };
        let (here, there) = (database.store().await, database.store().await);
        let keys = VirtualKeys::load(here).await.unwrap();
        let alice: Arc<str> = "alice".into();
        let minted = [(); 3].map(|()| keys.mint(&alice).unwrap());
        for minted in &minted {
            keep(&there, minted).await;
        }
        let [old, new, _] = &minted;
        let owner = keys.verify(old.key.expose()).await.unwrap();
        assert_eq!(owner.user_id(), &alice, "the store knows it");
        let newest = &minted[2];
        let ready = there.agent_ready(&alice, newest.row.key_id.clone());
        ready.await.unwrap();
        let refused = keys.verify(new.key.expose()).await;
        assert!(refused.is_err(), "it was ended before it came here");
        let ended = async {
            while keys.verify(old.key.expose()).await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(10), ended).await.unwrap();
        let known = keys.find_key_id(&alice);
        assert_eq!(known.as_ref(), Some(&newest.row.key_id), "heard of unasked");
        database.end().await;
    }

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
