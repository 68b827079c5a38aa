use std::{fmt, time::SystemTime};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::content::seconds;

/// What an issuer gave at sign-in, kept with the session, sealed.
///
/// `Debug` shows none of them; they are wiped when they are dropped.
#[derive(Clone, Deserialize, Serialize)]
pub struct IssuerTokens {
    access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "seconds")]
    refresh_at: Option<SystemTime>,
}

// === impl IssuerTokens ===

impl IssuerTokens {
    /// An access token alone.
    #[must_use]
    pub fn new(access_token: impl Into<String>) -> Self {
        Self {
            access_token: access_token.into(),
            refresh_token: None,
            id_token: None,
            refresh_at: None,
        }
    }

    /// Adds what gets a new access token.
    #[must_use]
    pub fn with_refresh_token(mut self, token: impl Into<String>) -> Self {
        self.refresh_token = Some(token.into());
        self
    }

    /// Adds the ID token, which names the session to the issuer at sign-out.
    #[must_use]
    pub fn with_id_token(mut self, token: impl Into<String>) -> Self {
        self.id_token = Some(token.into());
        self
    }

    /// Says when the access token is to be renewed, to the second; without this it never is.
    #[must_use]
    pub fn with_refresh_at(mut self, at: SystemTime) -> Self {
        self.refresh_at = Some(at);
        self
    }

    /// These, with what they lack of the earlier ones.
    pub(super) fn or(mut self, earlier: &Self) -> Self {
        if self.refresh_token.is_none() {
            self.refresh_token.clone_from(&earlier.refresh_token);
        }
        if self.id_token.is_none() {
            self.id_token.clone_from(&earlier.id_token);
        }
        self
    }

    /// The access token.
    #[must_use]
    pub fn access_token(&self) -> &str {
        &self.access_token
    }

    /// The refresh token.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&str> {
        self.refresh_token.as_deref()
    }

    /// The ID token.
    #[must_use]
    pub fn id_token(&self) -> Option<&str> {
        self.id_token.as_deref()
    }

    /// When the access token is to be renewed.
    #[must_use]
    pub const fn refresh_at(&self) -> Option<SystemTime> {
        self.refresh_at
    }
}

impl fmt::Debug for IssuerTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerTokens")
            .field("refresh_at", &self.refresh_at)
            .finish_non_exhaustive()
    }
}

impl Drop for IssuerTokens {
    fn drop(&mut self) {
        self.access_token.zeroize();
        self.refresh_token.zeroize();
        self.id_token.zeroize();
    }
}
