//! Random words: passwords, states, PKCE verifiers, marks.

use aws_lc_rs::rand;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use crate::error::{Error, Result};

/// 256 random bits in base64url.
///
/// # Errors
///
/// [`Error::Unexpected`] when the system has no random numbers.
pub fn random() -> Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<32>()?))
}

/// A word that nobody else says, by which what belongs to one test is found. Short, since OpenClaw hides from its log and
/// from models what looks like a credential.
///
/// # Errors
///
/// As [`random`].
pub fn mark() -> Result<String> {
    Ok(format!("mark-{}", hex::<5>()?))
}

/// A key of 256 random bits, as the gateway wants it in its configuration.
///
/// # Errors
///
/// As [`random`].
pub fn hex_key() -> Result<String> {
    hex::<32>()
}

/// What a webhook is signed with: 256 random bits in base64, in the form of Standard Webhooks.
///
/// # Errors
///
/// As [`random`].
pub fn webhook() -> Result<String> {
    Ok(format!("whsec_{}", STANDARD.encode(bytes::<32>()?)))
}

fn hex<const N: usize>() -> Result<String> {
    let bytes = bytes::<N>()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::unexpected("random numbers", "none"))?;
    Ok(bytes)
}
