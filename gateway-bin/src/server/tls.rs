use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;

use super::HEADER_TIMEOUT;
use super::certificate::Certificate;
use super::send_timeout::SendTimeout;
use crate::clock;

/// First byte of a handshake (RFC 8446 section 5.1); no method of HTTP begins with it.
const HANDSHAKE: u8 = 22;

/// How long a client may take nothing of what is sent to it. Longer than sockets wait, which know better why.
const SEND_TIMEOUT: Duration = Duration::from_secs(3 * 60);

/// What a listener speaks TLS with: 1.3 and 1.2, with HTTP/2 or HTTP/1.1 (RFC 7301). Clones share it.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
    /// What browsers are at.
    origin: Arc<str>,
}

/// The certificate that whoever comes now is shown.
struct Current(ArcSwap<Certificate>);

/// What a client has begun with.
pub(super) enum Begun {
    /// A handshake, which is done: it speaks HTTP/2, or not.
    Tls(Box<TlsStream<SendTimeout<TcpStream>>>, bool),
    /// HTTP without TLS.
    Clear(TcpStream),
}

// === impl Tls ===

impl Tls {
    /// TLS with this certificate, for browsers that are at `origin`.
    ///
    /// # Errors
    ///
    /// The library lacks what it needs.
    pub fn new(certificate: Certificate, origin: &str) -> Result<Self, TlsError> {
        tell_of(&certificate, origin);
        let current = Arc::new(Current(ArcSwap::from_pointee(certificate)));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            current,
            origin: origin.into(),
        })
    }

    /// The certificate in use.
    #[must_use]
    pub fn certificate(&self) -> Arc<Certificate> {
        self.current.0.load_full()
    }

    /// Shows another certificate to whoever comes from now on. Connections that are there stay.
    pub fn replace(&self, certificate: Certificate) {
        tell_of(&certificate, &self.origin);
        self.current.0.store(Arc::new(certificate));
    }

    /// Waits for a client to begin, and for the end of its handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<Begun> {
        let begun = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first != [HANDSHAKE] {
                return Ok(Begun::Clear(stream));
            }
            let stream = SendTimeout::new(stream, SEND_TIMEOUT);
            let stream = self.acceptor.accept(stream).await?;
            let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok(Begun::Tls(Box::new(stream), speaks_http2))
        };
        timeout(HEADER_TIMEOUT, begun).await?
    }
}

/// So that the operator is told before others are.
fn tell_of(certificate: &Certificate, origin: &str) {
    if let Some(problem) = certificate.problem(origin, clock::now()) {
        warn!("browsers refuse the certificate of `server.tls`: it {problem}");
    }
    metrics::gauge!("gateway_tls_certificate_not_after_seconds")
        .set(certificate.not_after().as_secs_f64());
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = self.certificate();
        f.debug_tuple("Tls").field(&certificate).finish()
    }
}

// === impl Current ===

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}
