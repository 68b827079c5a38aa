//! Random words: passwords, states, PKCE verifiers.

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::error::{Error, Result};

/// 256 random bits in base64url.
///
/// # Errors
///
/// [`Error::Unexpected`] when the system has no random numbers.
pub fn random() -> Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| Error::unexpected("random numbers", "none"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
