use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use crate::server::{Certificate, CertificateError};

/// `tls` of `[server]`: PEM files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Tls {
    /// The certificate of the host in `public_url`, and those between it and a root: what ACME clients call `fullchain.pem`.
    pub cert: PathBuf,
    /// Its private key, without a passphrase.
    pub key: PathBuf,
    /// What is in them.
    #[serde(skip)]
    pub certificate: Option<Certificate>,
}

impl Tls {
    pub(super) const fn new(cert: PathBuf, key: PathBuf) -> Self {
        Self {
            cert,
            key,
            certificate: None,
        }
    }

    /// Reads the files.
    pub(super) fn read(&mut self) -> Result<(), ConfigError> {
        let read = Certificate::read(&self.cert, &self.key).map_err(|error| {
            let key = match error {
                CertificateError::Certificates(_) => "server.tls.cert",
                CertificateError::Key(_) => "server.tls.key",
            };
            ConfigError::invalid(key, error.to_string())
        });
        self.certificate = Some(read?);
        Ok(())
    }
}
