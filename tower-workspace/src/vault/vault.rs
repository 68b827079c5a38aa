use std::{
    mem,
    sync::{Arc, PoisonError, RwLock},
};

use aws_lc_rs::aead::{Aad, Nonce};
use zeroize::Zeroizing;

use super::{
    MasterKeyId, MasterKeys, Sealed, SecretBytes, VaultError,
    master_keys::MasterKey,
    sealed::{TAG_LEN, VERSION},
};

/// Seals secrets under master keys, each for one user and one name of a key.
///
/// Clones share the master keys, and use others at once when they are [replaced](Self::replace).
/// `Debug` shows the ids of the master keys only. See the [module page](super).
#[derive(Clone, Debug)]
pub struct Vault(Arc<RwLock<Arc<MasterKeys>>>);

// === impl Vault ===

impl Vault {
    /// Longest secret, in bytes: 64 KiB. API keys have less than 200, the longest credential files
    /// of cloud providers some thousands.
    pub const SECRET_MAX: usize = 64 * 1024;

    /// A vault with these master keys: the first seals, all of them open.
    #[must_use]
    pub fn new(keys: MasterKeys) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(keys))))
    }

    /// Puts other master keys in the place of those it has, for all clones.
    ///
    /// What is being sealed or opened at the moment is so under the keys of before.
    pub fn replace(&self, keys: MasterKeys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Seals a secret for a user, under a name that the user knows the key by.
    ///
    /// No two are alike, though the secret be the same. User and name are not kept in it, and may be of
    /// any length; they are told apart byte for byte.
    ///
    /// # Errors
    ///
    /// [`VaultError::SecretTooLong`], [`VaultError::NoRandomness`].
    pub fn seal(&self, user_id: &str, key_name: &str, secret: &[u8]) -> Result<Sealed, VaultError> {
        seal(&self.keys().first, user_id, key_name, secret)
    }

    /// Opens what was sealed for this user under this name.
    ///
    /// # Errors
    ///
    /// [`VaultError::UnknownMasterKey`] if its master key is none of those in force,
    /// [`VaultError::NotAuthentic`] if it was changed or is another user's or another key's.
    pub fn open(
        &self,
        user_id: &str,
        key_name: &str,
        sealed: &Sealed,
    ) -> Result<SecretBytes, VaultError> {
        open(&self.keys(), user_id, key_name, sealed)
    }

    /// Whether the first master key is not the one that it was sealed under.
    #[must_use]
    pub fn needs_reseal(&self, sealed: &Sealed) -> bool {
        self.keys().first.id != sealed.master_key_id
    }

    /// Opens what was sealed for this user under this name, and seals it under the first master key.
    ///
    /// Write it back only where the row is still what was read.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), and [`VaultError::NoRandomness`].
    pub fn reseal(
        &self,
        user_id: &str,
        key_name: &str,
        sealed: &Sealed,
    ) -> Result<Sealed, VaultError> {
        let keys = self.keys();
        let secret = open(&keys, user_id, key_name, sealed)?;
        seal(&keys.first, user_id, key_name, secret.expose())
    }

    /// The ids of the master keys in force, the one that seals first.
    #[must_use]
    pub fn master_key_ids(&self) -> Vec<MasterKeyId> {
        self.keys().iter().map(|key| key.id).collect()
    }

    fn keys(&self) -> Arc<MasterKeys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn seal(
    master: &MasterKey,
    user_id: &str,
    key_name: &str,
    secret: &[u8],
) -> Result<Sealed, VaultError> {
    if secret.len() > Vault::SECRET_MAX {
        return Err(VaultError::SecretTooLong {
            length: secret.len(),
        });
    }
    // As long as it will be: no part of the secret is left behind where it was moved from.
    let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + TAG_LEN));
    text.extend_from_slice(secret);
    let aad = Aad::from(associated_data(master.id, user_id, key_name));
    let nonce = master.key.seal_in_place_append_tag(aad, &mut *text);
    Ok(Sealed {
        master_key_id: master.id,
        // Lengths are right, so that is what is left.
        nonce: *nonce.map_err(|_| VaultError::NoRandomness)?.as_ref(),
        text: mem::take(&mut *text).into(),
    })
}

fn open(
    keys: &MasterKeys,
    user_id: &str,
    key_name: &str,
    sealed: &Sealed,
) -> Result<SecretBytes, VaultError> {
    let id = sealed.master_key_id;
    let master = keys
        .iter()
        .find(|key| key.id == id)
        .ok_or(VaultError::UnknownMasterKey { id })?;
    let aad = Aad::from(associated_data(id, user_id, key_name));
    let nonce = Nonce::assume_unique_for_key(sealed.nonce);
    let mut text = Zeroizing::new(sealed.text.to_vec());
    let opened = master.key.open_in_place(nonce, aad, &mut text);
    let length = opened.map_err(|_| VaultError::NotAuthentic)?.len();
    text.truncate(length);
    Ok(SecretBytes::new(text))
}

/// Everything that can be read in a sealed secret, and whose it is. The lengths keep ("a", "bc") and
/// ("ab", "c") apart.
fn associated_data(id: MasterKeyId, user_id: &str, key_name: &str) -> Vec<u8> {
    let length = |text: &str| (text.len() as u64).to_be_bytes();
    [
        &[VERSION][..],
        &id.0,
        &length(user_id),
        user_id.as_bytes(),
        &length(key_name),
        key_name.as_bytes(),
    ]
    .concat()
}
