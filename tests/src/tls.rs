//! TLS for clients that know none: a tunnel, which trusts one certificate.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    error::{Error, Result},
    process::Process,
};

/// The name in the certificate.
pub const NAME: &str = "localhost";

/// How long the making of a certificate may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Connects to a server by TLS, as somebody who trusts nothing but its certificate.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    server: SocketAddr,
}

/// An address that leads to a server, through TLS. Dropping it closes it for new connections.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// Makes a certificate for [`NAME`] that has signed itself, and its key.
///
/// # Errors
///
/// [`Error::NotReady`] with what `openssl` says.
pub async fn make_certificate(certificate: &Path, key: &Path) -> Result<()> {
    let log = certificate.with_extension("log");
    let mut command = Command::new("openssl");
    command
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(key)
        .arg("-out")
        .arg(certificate);
    Process::spawn("openssl", command, log)?
        .succeed(LIMIT)
        .await
}

// === impl Tls ===

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// For the server at `server`, which has `certificate`, and speaks one of these protocols (ALPN), if any is named.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] for a certificate that is none.
    pub fn new(server: SocketAddr, certificate: &Path, protocols: &[&str]) -> Result<Self> {
        let bad = |error: Box<dyn std::error::Error + Send + Sync>| Error::connection("TLS", error);
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(certificate).map_err(|e| bad(e.into()))?;
        roots.add(certificate).map_err(|e| bad(e.into()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config
            .with_safe_default_protocol_versions()
            .map_err(|e| bad(e.into()))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            server,
        })
    }

    /// A connection, by the name in the certificate.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`].
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let refused = |error| Error::connection(self.server.to_string(), error);
        let stream = TcpStream::connect(self.server).await.map_err(refused)?;
        let name = ServerName::try_from(NAME).map_err(|error| Error::connection(NAME, error))?;
        self.connector.connect(name, stream).await.map_err(refused)
    }

    /// An address that leads there for clients without TLS.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] without a free port.
    pub async fn tunnel(&self) -> Result<Tunnel> {
        let failed = |error| Error::connection("a tunnel", error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = self.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    // A client whose server is gone finds its own connection closed.
                    if let Ok(mut server) = tls.connect().await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Ok(Tunnel { address, accepting })
    }
}

// === impl Tunnel ===

impl Tunnel {
    /// `http://` URL that leads through it, with the name in the certificate.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority())
    }

    /// `https://` URL of the same: what the server behind it is to call itself, so that a browser
    /// [behind](crate::browser::Browser::behind) the tunnel comes back to it.
    #[must_use]
    pub fn secure_url(&self, path: &str) -> String {
        format!("https://{}{path}", self.authority())
    }

    /// Host and port of its URLs.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{NAME}:{}", self.address.port())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
