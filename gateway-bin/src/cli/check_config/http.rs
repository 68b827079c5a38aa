//! Asks servers over HTTP, and says in plain words why one does not answer.

use std::error::Error;
use std::io;

use bytes::Bytes;
use http::{Request, Response};
use rustls::CertificateError;
use tokio::time::timeout;
use tower_sso::HttpClient;
use tower_sso::client::HyperClient;

use super::ANSWER;

/// The most bytes of an answer that are read, as many as for sign-in.
const LIMIT: usize = 1 << 20;

/// Asks by the certificates that this host trusts, as the gateway itself does.
pub(super) struct Fetcher(HyperClient);

// === impl Fetcher ===

impl Fetcher {
    pub(super) fn new() -> io::Result<Self> {
        HyperClient::new().map(Self)
    }

    /// `GET` of a URL; an error is a clause that says why there is no answer.
    pub(super) async fn get(&self, url: &str) -> Result<Response<Bytes>, String> {
        let request = Request::get(url).body(Bytes::new());
        let request = request.map_err(|_| "is not a URL".to_owned())?;
        self.send(request).await
    }

    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        match timeout(ANSWER, self.0.send(request, LIMIT)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err(format!("no answer within {} seconds", ANSWER.as_secs())),
        }
    }
}

/// Why somebody could not be reached, as a clause.
pub(super) fn explain(error: &(dyn Error + 'static)) -> String {
    let chain: Vec<&(dyn Error + 'static)> =
        std::iter::successors(Some(error), |e| inner(*e)).collect();
    for error in &chain {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return explain_tls(tls);
        }
    }
    let is_unknown = chain.iter().any(|error| {
        let text = error.to_string();
        text.starts_with("dns error") || text.starts_with("failed to lookup address")
    });
    if is_unknown {
        return "this host finds no address for that name".to_owned();
    }
    let kinds = chain
        .iter()
        .filter_map(|error| error.downcast_ref::<io::Error>());
    let mut kinds = kinds.map(io::Error::kind);
    let known = kinds.find_map(|kind| match kind {
        io::ErrorKind::ConnectionRefused => Some("nobody listens there"),
        io::ErrorKind::TimedOut => Some("it does not answer"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some("there is no way to it from this host")
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            Some("it closed the connection")
        }
        _ => None,
    });
    match (known, chain.last()) {
        (Some(known), _) => known.to_owned(),
        (None, Some(last)) => last.to_string(),
        (None, None) => error.to_string(),
    }
}

fn explain_tls(error: &rustls::Error) -> String {
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::InvalidMessage(_) => {
            return "it does not speak TLS there: is it http:// in place of https://, or another port?"
                .to_owned();
        }
        other => return format!("TLS fails: {other}"),
    };
    match certificate {
        // The last two are of a CA that has the name of one that this host trusts.
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its TLS certificate is of a CA that this host does not trust: have the host trust it, or name the CA's file in \
             SSL_CERT_FILE"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its TLS certificate has expired: renew it there, or set this host's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its TLS certificate is not valid yet: set this host's clock".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its TLS certificate is for another name: name the server as the certificate does"
                .to_owned()
        }
        other => format!("its TLS certificate does not verify: {other}"),
    }
}

/// What is behind an error; what is within an I/O error is not always its source.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(io) = error.downcast_ref::<io::Error>()
        && let Some(within) = io.get_ref()
    {
        return Some(within);
    }
    error.source()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(error: rustls::Error) -> String {
        // As hyper has them: within one another.
        let io = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        explain(&tower_sso::HttpError::new(io))
    }

    #[test]
    fn what_is_behind_is_said() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let said = explain(&tower_sso::HttpError::new(refused));
        assert_eq!(said, "nobody listens there");
        let said = explain(&tower_sso::HttpError::new("dns error"));
        assert_eq!(said, "this host finds no address for that name");
        let said = explain(&tower_sso::HttpError::new("something else"));
        assert_eq!(said, "something else");
    }

    #[test]
    fn a_certificate_that_does_not_verify_is_named() {
        let certificate = |error| tls(rustls::Error::InvalidCertificate(error));
        assert!(certificate(CertificateError::UnknownIssuer).contains("SSL_CERT_FILE"));
        assert!(certificate(CertificateError::Expired).contains("has expired"));
        assert!(certificate(CertificateError::NotValidForName).contains("another name"));
        assert!(certificate(CertificateError::NotValidYet).contains("clock"));
        assert!(tls(rustls::Error::HandshakeNotComplete).starts_with("TLS fails: "));
    }
}
