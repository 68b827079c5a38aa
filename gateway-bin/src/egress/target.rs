use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};

use super::credential::X_API_KEY;
use crate::config::{Provider, ProviderKind};

/// Longest key, in bytes; those of today have up to about 200.
const MAX_KEY: usize = 512;

/// A provider as model calls are sent to it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Target {
    /// Its name in the configuration, and the first part of its calls' paths.
    pub name: Arc<str>,
    /// Whose API it speaks.
    pub kind: ProviderKind,
    base: String,
    key: HeaderValue,
    models: Vec<Box<str>>,
}

// === impl Target ===

impl Target {
    /// A provider of the configuration.
    ///
    /// # Errors
    ///
    /// What of its configuration cannot be used.
    pub fn new(provider: &Provider) -> Result<Self, String> {
        let base = provider.base_url.trim_end_matches('/').to_owned();
        base.parse::<Uri>().map_err(|_| "base_url is not a URL")?;
        let key = provider.api_key.as_ref().ok_or("api_key is missing")?;
        let key = header_value(provider.kind, key.expose().as_bytes())
            .ok_or("api_key holds characters that a header cannot")?;
        let models = provider.models.iter();
        Ok(Self {
            name: provider.name.as_str().into(),
            kind: provider.kind,
            base,
            key,
            models: models.map(|model| model.id.as_str().into()).collect(),
        })
    }

    /// Whether people may use this model.
    pub(super) fn offers(&self, model: &str) -> bool {
        self.models.iter().any(|offered| **offered == *model)
    }

    /// The address of one of its calls.
    pub(super) fn uri(&self, path: &str) -> Option<Uri> {
        format!("{}{path}", self.base).parse().ok()
    }

    /// Adds the key that everybody uses, or somebody's own; false if that is none.
    pub(super) fn authorize(&self, headers: &mut HeaderMap, own: Option<&[u8]>) -> bool {
        let key = match own {
            Some(own) => header_value(self.kind, own),
            None => Some(self.key.clone()),
        };
        let Some(key) = key else {
            return false;
        };
        headers.insert(header_name(self.kind), key);
        true
    }

    /// Whether this can be a key at such a provider: a header can hold it.
    #[must_use]
    pub fn is_key(&self, key: &str) -> bool {
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        visible && (1..=MAX_KEY).contains(&key.len())
    }
}

const fn header_name(kind: ProviderKind) -> HeaderName {
    match kind {
        ProviderKind::Openai => AUTHORIZATION,
        ProviderKind::Anthropic => X_API_KEY,
    }
}

/// A key as its header has it; `None` if no header can.
fn header_value(kind: ProviderKind, key: &[u8]) -> Option<HeaderValue> {
    let value = match kind {
        ProviderKind::Openai => HeaderValue::from_bytes(&[b"Bearer ", key].concat()),
        ProviderKind::Anthropic => HeaderValue::from_bytes(key),
    };
    let mut value = value.ok()?;
    value.set_sensitive(true);
    Some(value)
}
