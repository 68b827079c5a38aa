use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use futures_util::FutureExt;
use thiserror::Error;
use tokio::sync::Mutex;
use tower_workspace::vault::{Sealed, SecretBytes, Vault, VaultError};
use tracing::warn;

use crate::follow::{Hearing, follow};
use crate::store::{ProviderKeyRow, Store, StoreError};

/// The keys that people have of their own at providers, sealed; clones share them. Each is opened when a call of its
/// owner goes out with it.
///
/// Where gateways share a store, what another does is heard within some seconds.
#[derive(Clone)]
pub struct OwnKeys(Arc<Inner>);

struct Inner {
    /// Changes, one at a time: what is known here is what was put last.
    turn: Mutex<()>,
    store: Option<Store>,
    vault: Option<Vault>,
    /// By user.
    sealed: RwLock<HashMap<Arc<str>, ByProvider>>,
}

type ByProvider = HashMap<Arc<str>, Sealed>;

/// Why a key is not kept, or cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OwnKeyError {
    /// There is no master key to seal it under.
    #[error("no master key is configured")]
    NoMasterKey,
    /// It cannot be sealed or opened.
    #[error("the key cannot be sealed or opened")]
    Vault(#[from] VaultError),
    /// The store does not answer.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
    /// The gateway ends.
    #[error("the gateway ends")]
    Stopped,
}

// === impl OwnKeys ===

impl OwnKeys {
    /// Nobody has any.
    #[must_use]
    pub fn none() -> Self {
        Self::new(None, None)
    }

    /// Those that the store has, sealed under the master keys of `vault`; without it none can be put or used. If the store
    /// is shared, what others do there is heard as long as the keys are used, in a task of the current runtime.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn load(store: Store, vault: Option<Vault>) -> Result<Self, StoreError> {
        let since = store.time().await?;
        let keys = Self::new(Some(store.clone()), vault);
        for row in store.provider_keys().await? {
            keys.0.keep(&row);
        }
        if store.is_shared() {
            let known = Arc::downgrade(&keys.0);
            tokio::spawn(follow(store, since, known, hear));
        }
        Ok(keys)
    }

    fn new(store: Option<Store>, vault: Option<Vault>) -> Self {
        Self(Arc::new(Inner {
            turn: Mutex::default(),
            store,
            vault,
            sealed: RwLock::default(),
        }))
    }

    /// Keeps somebody's own key at a provider, in place of the one before.
    ///
    /// # Errors
    ///
    /// See [`OwnKeyError`].
    pub async fn put(
        &self,
        user_id: &Arc<str>,
        provider: &Arc<str>,
        key: &[u8],
    ) -> Result<(), OwnKeyError> {
        let (_, vault) = self.parts()?;
        let row = ProviderKeyRow {
            user_id: Arc::clone(user_id),
            provider: Arc::clone(provider),
            sealed: vault.seal(user_id, &key_name(provider), key)?.to_bytes(),
        };
        self.change(move |keys| async move {
            let (store, _) = keys.parts()?;
            store
                .put_provider_key(&row.user_id, &row.provider, &row.sealed)
                .await?;
            keys.0.keep(&row);
            Ok(())
        })
        .await
    }

    /// Changes something to the end, also if nobody waits for it any longer, and while nobody else does.
    async fn change<T, F>(
        &self,
        change: impl FnOnce(Self) -> F + Send + 'static,
    ) -> Result<T, OwnKeyError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, OwnKeyError>> + Send,
    {
        let keys = self.clone();
        let changed = tokio::spawn(async move {
            let _turn = keys.0.turn.lock().await;
            change(keys.clone()).await
        });
        changed.await.unwrap_or(Err(OwnKeyError::Stopped))
    }

    /// Takes somebody's own key away; whether there was one.
    ///
    /// # Errors
    ///
    /// See [`OwnKeyError`].
    pub async fn delete(
        &self,
        user_id: &Arc<str>,
        provider: &Arc<str>,
    ) -> Result<bool, OwnKeyError> {
        let (user_id, provider) = (Arc::clone(user_id), Arc::clone(provider));
        self.change(move |keys| async move {
            let Some(store) = &keys.0.store else {
                return Ok(false);
            };
            let deleted = store.delete_provider_key(&user_id, &provider).await?;
            keys.0.forget(&user_id, &provider);
            Ok(deleted)
        })
        .await
    }

    /// The providers at which somebody has a key of their own, by name.
    #[must_use]
    pub fn providers_of(&self, user_id: &str) -> Vec<Arc<str>> {
        let sealed = self.0.sealed.read().unwrap_or_else(PoisonError::into_inner);
        let of_user = sealed.get(user_id).into_iter().flat_map(HashMap::keys);
        let mut providers: Vec<_> = of_user.cloned().collect();
        providers.sort();
        providers
    }

    /// Somebody's own key at a provider, if they have one.
    ///
    /// # Errors
    ///
    /// See [`OwnKeyError`]: they have one, and it cannot be used.
    pub fn find(&self, user_id: &str, provider: &str) -> Result<Option<SecretBytes>, OwnKeyError> {
        let sealed = {
            let sealed = self.0.sealed.read().unwrap_or_else(PoisonError::into_inner);
            let of_user = sealed.get(user_id);
            of_user.and_then(|of_user| of_user.get(provider)).cloned()
        };
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let (_, vault) = self.parts()?;
        Ok(Some(vault.open(user_id, &key_name(provider), &sealed)?))
    }

    /// Seals anew, under the first master key, what is sealed under another; how many keys that were, and how many cannot
    /// be opened: each of those is named in the log, and its user has to put it again.
    ///
    /// # Errors
    ///
    /// See [`OwnKeyError`]; some may be sealed anew then.
    pub async fn reseal(&self) -> Result<(usize, usize), OwnKeyError> {
        self.change(|keys| async move { keys.reseal_all().await })
            .await
    }

    async fn reseal_all(&self) -> Result<(usize, usize), OwnKeyError> {
        let (store, vault) = self.parts()?;
        let (mut resealed, mut lost) = (0, 0);
        for mut row in store.provider_keys().await? {
            let anew = match anew(vault, &row) {
                Ok(Some(anew)) => anew,
                Ok(None) => continue,
                Err(error) => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    let provider = &*row.provider;
                    warn!(
                        error,
                        user = &*row.user_id,
                        provider,
                        "a key cannot be sealed anew"
                    );
                    lost += 1;
                    continue;
                }
            };
            // Whoever has put another meanwhile has sealed it under the first.
            if store.reseal_provider_key(&row, &anew).await? {
                row.sealed = anew;
                self.0.keep(&row);
                resealed += 1;
            }
        }
        Ok((resealed, lost))
    }

    fn parts(&self) -> Result<(&Store, &Vault), OwnKeyError> {
        let parts = self.0.store.as_ref().zip(self.0.vault.as_ref());
        parts.ok_or(OwnKeyError::NoMasterKey)
    }
}

impl fmt::Debug for OwnKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnKeys").finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    fn keep(&self, row: &ProviderKeyRow) {
        if row.sealed.is_empty() {
            return self.forget(&row.user_id, &row.provider);
        }
        let sealed = match Sealed::from_bytes(&row.sealed) {
            Ok(sealed) => sealed,
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                warn!(error, "somebody's own key at a provider cannot be read");
                return;
            }
        };
        let mut keys = self.sealed.write().unwrap_or_else(PoisonError::into_inner);
        let of_user = keys.entry(Arc::clone(&row.user_id)).or_default();
        of_user.insert(Arc::clone(&row.provider), sealed);
    }

    fn forget(&self, user_id: &str, provider: &str) {
        let mut keys = self.sealed.write().unwrap_or_else(PoisonError::into_inner);
        let Some(of_user) = keys.get_mut(user_id) else {
            return;
        };
        of_user.remove(provider);
        if of_user.is_empty() {
            keys.remove(user_id);
        }
    }
}

/// A key under the first master key, unless it is already.
fn anew(vault: &Vault, row: &ProviderKeyRow) -> Result<Option<Vec<u8>>, VaultError> {
    let sealed = Sealed::from_bytes(&row.sealed)?;
    if !vault.needs_reseal(&sealed) {
        return Ok(None);
    }
    let anew = vault.reseal(&row.user_id, &key_name(&row.provider), &sealed)?;
    Ok(Some(anew.to_bytes()))
}

/// What a key is sealed as, besides for whom.
fn key_name(provider: &str) -> String {
    format!("provider-key:{provider}")
}

/// Learns what other gateways have done. What was read just before it changed is put right the next time.
fn hear(store: Store, since: SystemTime, known: Arc<Inner>) -> Hearing {
    async move {
        for row in store.provider_keys_since(since).await? {
            known.keep(&row);
        }
        Ok(())
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use tower_workspace::vault::MasterKeys;

    use super::*;
    use crate::store::testing::on_each_store;

    fn vault(keys: &[char]) -> Vault {
        let lines: Vec<_> = keys.iter().map(|key| key.to_string().repeat(64)).collect();
        Vault::new(MasterKeys::parse(lines.join("\n")).unwrap())
    }

    #[tokio::test]
    async fn d8_69_a_key_of_ones_own_is_sealed_kept_and_sealed_anew() {
        on_each_store(|stores| async move {
            let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
            let openai: Arc<str> = "openai".into();
            let store = stores.open().await;
            let load = |keys: &[char]| OwnKeys::load(store.clone(), Some(vault(keys)));
            let keys = load(&['a']).await.unwrap();
            keys.put(&alice, &openai, b"sk-secret").await.unwrap();
            let found = keys.find(&alice, &openai).unwrap().unwrap();
            assert_eq!(found.expose(), b"sk-secret");
            assert!(keys.find(&bob, &openai).unwrap().is_none());
            assert_eq!(keys.providers_of(&alice), [Arc::clone(&openai)]);

            // Sealed for her: in another's row it opens nothing.
            let rows = store.provider_keys().await.unwrap();
            let stored = &rows[0].sealed;
            assert!(!stored.windows(9).any(|part| part == b"sk-secret"));
            store.put_provider_key(&bob, &openai, stored).await.unwrap();
            let again = load(&['b', 'a']).await.unwrap();
            assert!(matches!(
                again.find(&bob, &openai),
                Err(OwnKeyError::Vault(_))
            ));
            assert!(keys.delete(&bob, &openai).await.unwrap());

            // The master key before is not needed any more.
            assert_eq!(again.reseal().await.unwrap(), (1, 0));
            assert_eq!(again.reseal().await.unwrap(), (0, 0));
            let later = load(&['b']).await.unwrap();
            let found = later.find(&alice, &openai).unwrap().unwrap();
            assert_eq!(found.expose(), b"sk-secret");
            let other = load(&['c']).await.unwrap();
            assert!(
                other.find(&alice, &openai).is_err(),
                "never as if she had none"
            );
            let without = OwnKeys::load(store.clone(), None).await.unwrap();
            assert!(matches!(
                without.find(&alice, &openai),
                Err(OwnKeyError::NoMasterKey)
            ));
            assert!(later.delete(&alice, &openai).await.unwrap());
            assert!(later.find(&alice, &openai).unwrap().is_none());
        })
        .await;
    }
}
