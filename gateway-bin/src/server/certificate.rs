use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::aws_lc_rs::digest::{SHA256, digest};
use http::Uri;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use thiserror::Error;
use x509_cert::der::Decode;

use crate::api::rfc3339;

/// A certificate of ours with those that lead to a root (RFC 5280), and its key.
#[derive(Clone)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    not_before: Duration,
    not_after: Duration,
    sha256: String,
}

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// What is wrong with the certificates.
    #[error("{0}")]
    Certificates(String),
    /// What is wrong with the key.
    #[error("{0}")]
    Key(String),
}

// === impl Certificate ===

impl Certificate {
    /// Reads PEM files (RFC 7468): certificates, our own first, and the key of that one.
    ///
    /// # Errors
    ///
    /// A file cannot be read or holds something else, or the key is that of another certificate. The error names the file.
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, CertificateError> {
        let wrong = |problem: &dyn fmt::Display| {
            CertificateError::Certificates(format!("{}: {problem}", certificates.display()))
        };
        let chain = CertificateDer::pem_file_iter(certificates);
        let chain = chain.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| wrong(&pem_problem(error, "certificate")))?;
        let Some(own) = chain.first() else {
            return Err(wrong(&"holds no certificate in PEM form"));
        };
        let parsed = x509_cert::Certificate::from_der(own);
        let parsed = parsed.map_err(|error| wrong(&format!("is no certificate: {error}")))?;
        let validity = parsed.tbs_certificate.validity;
        let not_before = validity.not_before.to_unix_duration();
        let not_after = validity.not_after.to_unix_duration();
        let sha256 = digest(&SHA256, own);
        let sha256 = sha256.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let sha256 = sha256.collect();

        let file = key.display();
        let secret = PrivateKeyDer::from_pem_file(key);
        let secret = secret.map_err(|error| {
            CertificateError::Key(format!("{file}: {}", pem_problem(error, "private key")))
        })?;
        let certified = CertifiedKey::from_der(chain, secret, &aws_lc_rs::default_provider());
        let certified = certified.map_err(|error| match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateError::Key(
                format!("{file}: is the key of another certificate than the first one of `cert`"),
            ),
            TlsError::InvalidCertificate(error) => wrong(&format!("is no certificate: {error:?}")),
            // What the library says names the kind of the problem and nothing of the key.
            error => CertificateError::Key(format!("{file}: cannot be used: {error}")),
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            not_before,
            not_after,
            sha256,
        })
    }

    /// When it ends, since 1970.
    #[must_use]
    pub const fn not_after(&self) -> Duration {
        self.not_after
    }

    /// The SHA-256 of its DER form in hexadecimal, by which `openssl x509 -fingerprint -sha256` knows it too.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Why browsers that are at an origin refuse it, as far as it says so itself, with what to do.
    #[must_use]
    pub fn problem(&self, origin: &str, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = |moment: Duration| rfc3339(UNIX_EPOCH + moment);
        let origin: Option<Uri> = origin.parse().ok();
        let host = origin.as_ref().and_then(Uri::host).unwrap_or_default();
        if !self.is_for(host.trim_matches(['[', ']'])) {
            return Some(format!(
                "is not for {host}, the host in `public_url`: have one made for that name"
            ));
        }
        if self.not_after <= now {
            let end = at(self.not_after);
            return Some(format!("has ended at {end}: renew it, and reload"));
        }
        let begin = at(self.not_before);
        (now < self.not_before).then(|| {
            format!(
                "begins at {begin}: look at this host's clock, or have one made that is good now"
            )
        })
    }

    /// Whether clients that want to reach `host` take it for that host's (RFC 9525).
    fn is_for(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else {
            return false;
        };
        let own = self.certified.end_entity_cert();
        own.and_then(ParsedCertificate::try_from)
            .is_ok_and(|own| rustls::client::verify_server_name(&own, &name).is_ok())
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

/// Says what is wrong with a file without any of what is in it.
fn pem_problem(error: PemError, what: &str) -> String {
    match error {
        PemError::Io(error) => error.to_string(),
        PemError::NoItemsFound => {
            format!("holds no {what} in PEM form (one with a passphrase cannot be read)")
        }
        _ => "is not a PEM file, or was cut off".to_owned(),
    }
}
