//! The provider's process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::IssuerClient;
use crate::{error::Result, install::Install, port::free_address, process::Process};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// The program, beside this crate's sources.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/issuer.mjs");

/// A running OpenID provider. Dropping it kills it. It forgets everything, its keys among it, when
/// it ends.
#[derive(Debug)]
pub struct Issuer {
    install: Install,
    log: PathBuf,
    address: SocketAddr,
    process: Process,
}

impl Issuer {
    /// Starts an issuer that logs into the directory `dir`; answers when it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Run`], [`Error::NotReady`] with the end of its log.
    ///
    /// [`Error::File`]: crate::error::Error::File
    /// [`Error::Run`]: crate::error::Error::Run
    /// [`Error::NotReady`]: crate::error::Error::NotReady
    pub async fn start(install: Install, dir: &Path) -> Result<Self> {
        let (address, log) = (free_address()?, dir.join("issuer.log"));
        let process = spawn(&install, address, log.clone())?;
        let mut issuer = Self {
            install,
            log,
            address,
            process,
        };
        issuer.ready().await?;
        Ok(issuer)
    }

    /// Kills it.
    ///
    /// # Errors
    ///
    /// [`Error::Run`](crate::error::Error::Run) when it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await.map(|_| ())
    }

    /// Starts a killed issuer again, at the same address and with new keys.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.install, self.address, self.log.clone())?;
        self.ready().await
    }

    /// Its name in tokens, and the URL its discovery document is below: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client that gets tokens from it.
    #[must_use]
    pub fn client(&self) -> IssuerClient {
        IssuerClient::new(self.url())
    }

    async fn ready(&mut self) -> Result<()> {
        let url = format!("{}/.well-known/openid-configuration", self.url());
        self.process.ready(&url, READY_LIMIT).await
    }
}

fn spawn(install: &Install, address: SocketAddr, log: PathBuf) -> Result<Process> {
    let mut command = install.command();
    command.arg(PROGRAM);
    command.arg("--modules").arg(&install.modules);
    command.arg("--port").arg(address.port().to_string());
    Process::spawn("the issuer", command, log)
}
