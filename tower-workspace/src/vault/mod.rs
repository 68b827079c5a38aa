//! API keys, sealed so that who steals the database has none of them.
//!
//! A [`Vault`] seals a secret for one user and one name of a key; the [`Sealed`] that comes of it
//! may lie in any store. It opens under the same master key, for the same user and the same name,
//! and not otherwise: a row moved to another user, or changed in one bit, is
//! [`VaultError::NotAuthentic`].
//!
//! ```
//! use tower_workspace::vault::{MasterKeys, Sealed, Vault, VaultError};
//!
//! // What `openssl rand -hex 32` printed into a file that only the server may read.
//! # let file = "\
//! # 603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4\n";
//! let vault = Vault::new(MasterKeys::parse(file)?);
//!
//! let row: Vec<u8> = vault.seal("alice", "anthropic", b"sk-ant-1")?.to_bytes();
//!
//! let sealed = Sealed::from_bytes(&row)?;
//! assert_eq!(vault.open("alice", "anthropic", &sealed)?.expose(), b"sk-ant-1");
//! let stolen = vault.open("bob", "anthropic", &sealed);
//! assert!(matches!(stolen, Err(VaultError::NotAuthentic)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rotation
//!
//! The first master key seals, all of them open, and [`Vault::replace`] exchanges them while the
//! server runs. No step takes a secret away from anybody:
//!
//! 1. Put the new key *below* the old one. Where several servers share a store, do so on all of them
//!    before the next step: one that has not heard of the new key could not open what it sealed.
//! 2. Put the new key first. From now on it seals.
//! 3. Go through the store: [`Vault::reseal`] what [`Vault::needs_reseal`], and write it back only
//!    where the row is still what was read. Its user may have given another secret meanwhile.
//! 4. When no row needs it any more, and no backup that you want to read, take the old key away. If
//!    a row was forgotten, its [`VaultError::UnknownMasterKey`] says which key to put back.
//!
//! One master key is good for 2<sup>32</sup> sealings, more than a hundred a second for a year (NIST
//! SP 800-38D section 8.3, on random nonces). Resealing does not help who has lost a master key *and*
//! the store: then the secrets themselves must be changed.
//!
//! # Format
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 8 | id of the master key: the first of the SHA-256 of `tower-workspace master key` and the key |
//! | 12 | random nonce |
//! | as the secret | ciphertext, AES-256-GCM |
//! | 16 | tag |
//!
//! Associated data are the version, the id of the master key, the length of the user id as 8
//! bytes, big end first, the user id, the length of the key's name likewise, and the name. How long a
//! secret is can be seen. The format is part of this crate's stable interface: what was sealed once
//! opens in every later version.

mod error;
mod master_keys;
mod sealed;
mod secret;
#[expect(
    clippy::module_inception,
    reason = "the type is named after what it is"
)]
mod vault;

pub use self::{
    error::VaultError,
    master_keys::{MasterKeyId, MasterKeys, MasterKeysError},
    sealed::Sealed,
    secret::SecretBytes,
    vault::Vault,
};
