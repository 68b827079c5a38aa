//! Values that want more care than a string.

use std::fmt;
use std::fs;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tower_usage::NanoUsd;

/// A secret of the configuration: its `Debug` shows nothing, its memory is wiped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(SecretString::from(secret.into()))
    }

    /// Shows the secret, to be sent where it belongs.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Reads the first line of a file, without the line's end.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or its first line is empty.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        match text.lines().next().map(str::trim_end) {
            Some(line) if !line.is_empty() => Ok(Self::new(line)),
            _ => Err("its first line is empty".to_owned()),
        }
    }

    /// Reads all lines of a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds nothing.
    pub(super) fn read_lines(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        match text.trim() {
            "" => Err("it is empty".to_owned()),
            lines => Ok(Self::new(lines)),
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// A decimal amount of dollars; a number is refused, since a float is not exact.
pub(super) fn dollars<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<NanoUsd>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let amount: NanoUsd = text.parse().map_err(serde::de::Error::custom)?;
    if amount < NanoUsd::ZERO {
        return Err(serde::de::Error::custom(
            "an amount of money must not be negative",
        ));
    }
    Ok(Some(amount))
}
