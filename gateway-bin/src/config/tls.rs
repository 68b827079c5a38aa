use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use crate::server::{Certificate, CertificateError};

/// `tls` of `[server]`: PEM files, read at the start and at each reload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tls {
    /// The certificate of the host in `public_url`, and those between it and a root: what ACME clients call `fullchain.pem`.
    pub cert: PathBuf,
    /// Its private key, without a passphrase.
    pub key: PathBuf,
}

impl Tls {
    pub(super) const fn new(cert: PathBuf, key: PathBuf) -> Self {
        Self { cert, key }
    }

    /// The certificate and its key, read now.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`], which names the file.
    pub fn read(&self) -> Result<Certificate, ConfigError> {
        let read = Certificate::read(&self.cert, &self.key);
        read.map_err(|error| {
            let key = match error {
                CertificateError::Certificates(_) => "server.tls.cert",
                CertificateError::Key(_) => "server.tls.key",
            };
            ConfigError::invalid(key, error.to_string())
        })
    }
}
