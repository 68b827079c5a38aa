//! What a test asks a provider in another process.

use serde_json::json;

use super::{ModelCall, Tokens};
use crate::{
    error::{Error, Result},
    http,
};

/// The record of a running provider.
#[derive(Clone, Debug)]
pub struct ProviderClient {
    url: String,
}

impl ProviderClient {
    /// Of the provider at a base URL, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into() }
    }

    /// Every call since the start or the last reset, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`], [`Error::Unexpected`].
    pub async fn calls(&self) -> Result<Vec<ModelCall>> {
        let answer = http::get(&format!("{}/__requests", self.url), None).await?;
        serde_json::from_slice(&answer.body).map_err(|_| Error::unexpected("record", answer.text()))
    }

    /// The calls whose user message contains `text`: those of one test among all.
    ///
    /// # Errors
    ///
    /// As [`calls`](Self::calls).
    pub async fn calls_about(&self, text: &str) -> Result<Vec<ModelCall>> {
        let mut calls = self.calls().await?;
        calls.retain(|call| call.last_user.contains(text));
        Ok(calls)
    }

    /// What the calls whose user message contains `text` are billed together.
    ///
    /// # Errors
    ///
    /// As [`calls`](Self::calls).
    pub async fn tokens_about(&self, text: &str) -> Result<Tokens> {
        let calls = self.calls_about(text).await?;
        Ok(calls.iter().map(ModelCall::tokens).sum())
    }

    /// Forgets every call. Not for tests that share the provider with others.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`].
    pub async fn reset(&self) -> Result<()> {
        http::post(&format!("{}/__reset", self.url), None, &json!({}))
            .await
            .map(|_| ())
    }
}
