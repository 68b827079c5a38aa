use thiserror::Error;

use super::{MasterKeyId, Vault};

/// Why something was not sealed, or does not open. None of it says anything of the secret.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum VaultError {
    /// The secret is longer than [`Vault::SECRET_MAX`].
    #[error("secret of {length} bytes is longer than {}", Vault::SECRET_MAX)]
    SecretTooLong {
        /// Length of the refused secret in bytes.
        length: usize,
    },
    /// The system has no randomness for a nonce.
    #[error("system has no randomness")]
    NoRandomness,
    /// The bytes are shorter or longer than anything sealed: cut off, or something else.
    #[error("{length} bytes are not a sealed secret")]
    Malformed {
        /// How many there are.
        length: usize,
    },
    /// The bytes are of another version of the format: from a later version of this crate, or
    /// something else.
    #[error("sealed secret has version {version}, not 1")]
    UnknownVersion {
        /// The version they begin with.
        version: u8,
    },
    /// It was sealed under a master key that the vault does not have. Put the key back to open it.
    #[error("sealed secret needs master key {id}, which is not there")]
    UnknownMasterKey {
        /// The id of the key.
        id: MasterKeyId,
    },
    /// It was changed, or sealed for another user or another name of a key.
    #[error("sealed secret was changed, or is another user's or another key's")]
    NotAuthentic,
}
