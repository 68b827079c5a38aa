use std::fmt;

use zeroize::Zeroizing;

/// An opened secret. `Debug` shows nothing of it, and its memory is wiped when it is dropped.
///
/// It cannot be cloned or compared: show it where it is needed, and drop it.
///
/// ```compile_fail
/// # use tower_workspace::vault::SecretBytes;
/// fn keep(secret: &SecretBytes) -> SecretBytes {
///     SecretBytes::clone(secret)
/// }
/// ```
pub struct SecretBytes(Zeroizing<Vec<u8>>);

// === impl SecretBytes ===

impl SecretBytes {
    pub(super) const fn new(secret: Zeroizing<Vec<u8>>) -> Self {
        Self(secret)
    }

    /// Shows the secret, to be sent where it belongs.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}
