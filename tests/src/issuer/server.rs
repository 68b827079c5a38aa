//! The provider's process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::IssuerClient;
use crate::{canary, error::Result, install::Install, port::free_address, process::Process};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// The program, beside this crate's sources.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/issuer.mjs");

/// It has nothing to finish but a file to write.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A running OpenID provider. Dropping it kills it.
#[derive(Debug)]
pub struct Issuer {
    install: Install,
    dir: PathBuf,
    address: SocketAddr,
    process: Process,
}

impl Issuer {
    /// Starts an issuer that logs into the directory `dir`, and keeps there what outlives it; answers
    /// when it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Run`], [`Error::NotReady`] with the end of its log.
    ///
    /// [`Error::File`]: crate::error::Error::File
    /// [`Error::Run`]: crate::error::Error::Run
    /// [`Error::NotReady`]: crate::error::Error::NotReady
    pub async fn start(install: Install, dir: &Path) -> Result<Self> {
        let address = free_address()?;
        let process = spawn(&install, address, dir)?;
        let mut issuer = Self {
            install,
            dir: dir.to_owned(),
            address,
            process,
        };
        issuer.ready().await?;
        Ok(issuer)
    }

    /// Ends it in order: once started again it knows everything it knew.
    ///
    /// # Errors
    ///
    /// [`Error::Run`](crate::error::Error::Run) when it cannot be waited for.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP_LIMIT).await.map(|_| ())
    }

    /// Kills it: once started again it has its keys, and has forgotten what happened since it started.
    ///
    /// # Errors
    ///
    /// [`Error::Run`](crate::error::Error::Run) when it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await.map(|_| ())
    }

    /// Starts a stopped or killed issuer again, at the same address and with the same keys.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.install, self.address, &self.dir)?;
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

    /// Its process: stopped by a signal it is an issuer that hangs.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn ready(&mut self) -> Result<()> {
        let url = format!("{}/.well-known/openid-configuration", self.url());
        self.process.ready(&url, READY_LIMIT).await
    }
}

fn spawn(install: &Install, address: SocketAddr, dir: &Path) -> Result<Process> {
    let port = address.port().to_string();
    let mut command = install.command();
    command.arg(PROGRAM);
    command.arg("--modules").arg(&install.modules);
    command
        .arg("--state")
        .arg(dir.join(format!("issuer-{port}.json")));
    command.args(["--port", &port]);
    if let Some(issued) = canary::issued_file() {
        command.arg("--issued").arg(issued);
    }
    Process::spawn("the issuer", command, dir.join("issuer.log"))
}
