use std::path::PathBuf;

use http::Uri;
use serde::Deserialize;

use super::check::is_loopback;
use super::{ConfigError, Secret};
use crate::webhook::{Signer, Target};

/// `[alerts]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Alerts {
    /// Where each alert is sent; it may hold a token, in its path or query. Absent: alerts are kept and shown only.
    pub webhook_url: Option<Secret>,
    /// File that holds that URL.
    pub webhook_url_file: Option<PathBuf>,
    /// What is sent is signed with these, a line each of `whsec_` and 24 to 64 bytes in base64. All sign, so that the
    /// receiver can go over from one to the next.
    pub webhook_secret: Option<Secret>,
    /// File that holds the secrets.
    pub webhook_secret_file: Option<PathBuf>,
}

impl Alerts {
    /// The webhook; `None` if there is none.
    ///
    /// # Errors
    ///
    /// What of the URL or of the secrets cannot be used; neither is shown.
    pub fn webhook(&self) -> Result<Option<Target>, ConfigError> {
        let (url, secrets) = match (&self.webhook_url, &self.webhook_secret) {
            (Some(url), Some(secrets)) => (url, secrets),
            (Some(_), None) => {
                return Err(ConfigError::invalid(
                    "alerts.webhook_secret_file",
                    format!("is missing; what is sent to the webhook is signed with it: {MAKE}"),
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError::invalid(
                    "alerts.webhook_url",
                    "is missing; where is what `webhook_secret` signs sent?",
                ));
            }
            (None, None) => return Ok(None),
        };
        let url = webhook_url(url.expose())
            .map_err(|problem| ConfigError::invalid("alerts.webhook_url", problem))?;
        let signer = Signer::parse(secrets.expose()).map_err(|error| {
            ConfigError::invalid("alerts.webhook_secret", format!("{error}; {MAKE}"))
        })?;
        Ok(Some(Target::new(url, signer)))
    }
}

/// How a secret is made.
const MAKE: &str = "`echo whsec_$(openssl rand -base64 32)` makes one";

fn webhook_url(url: &str) -> Result<Uri, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("is not an http or https URL");
    };
    if authority.as_str().contains('@') {
        return Err("names a user, which would not be sent; put a token into its path or query");
    }
    if uri.scheme_str() != Some("https") && !is_loopback(&uri) {
        return Err("must be https: what people use would go over the network in clear");
    }
    Ok(uri)
}
