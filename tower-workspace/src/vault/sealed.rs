use std::fmt;

use aws_lc_rs::aead::NONCE_LEN;

use super::{MasterKeyId, Vault, VaultError};

/// A secret under a master key: what a store keeps.
///
/// Parsed from its bytes, so that whatever is one has the right version and a possible length. Whether
/// it is authentic is known when it is [opened](Vault::open).
#[derive(Clone, Eq, PartialEq)]
pub struct Sealed {
    pub(super) master_key_id: MasterKeyId,
    pub(super) nonce: [u8; NONCE_LEN],
    /// Ciphertext and tag.
    pub(super) text: Box<[u8]>,
}

// === impl Sealed ===

impl Sealed {
    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`VaultError::UnknownVersion`] if the first byte is not 1, [`VaultError::Malformed`] if there is
    /// none, or there are fewer or more bytes than a sealed secret can have. Nothing is copied then.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VaultError> {
        let malformed = || VaultError::Malformed {
            length: bytes.len(),
        };
        let (&version, rest) = bytes.split_first().ok_or_else(malformed)?;
        if version != VERSION {
            return Err(VaultError::UnknownVersion { version });
        }
        let (id, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let (nonce, text) = rest.split_first_chunk().ok_or_else(malformed)?;
        if !(TAG_LEN..=Vault::SECRET_MAX + TAG_LEN).contains(&text.len()) {
            return Err(malformed());
        }
        Ok(Self {
            master_key_id: MasterKeyId(*id),
            nonce: *nonce,
            text: text.into(),
        })
    }

    /// The bytes to store, 37 more than the secret has. The [module page](super#format) says what each
    /// of them is.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            &[VERSION][..],
            &self.master_key_id.0,
            &self.nonce,
            &self.text,
        ]
        .concat()
    }

    /// The id of the master key that it was sealed under.
    #[must_use]
    pub const fn master_key_id(&self) -> MasterKeyId {
        self.master_key_id
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("master_key_id", &self.master_key_id)
            .finish_non_exhaustive()
    }
}

/// Of the format: all that [`Sealed`] can be.
pub(super) const VERSION: u8 = 1;

/// Of AES-256-GCM as it is used here, in bytes: the longest tag it has (NIST SP 800-38D section
/// 5.2.1.2).
pub(super) const TAG_LEN: usize = 16;
