//! One running gateway.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use rustix::process::Signal;
use tokio::{process::Command, time::timeout};

use super::Config;
use crate::{
    canary,
    error::{Error, Result},
    process::Process,
};

/// The variable that names the binary.
pub(super) const VARIABLE: &str = "GATEWAY_BIN";

const READY_LIMIT: Duration = Duration::from_secs(60);

/// Time enough for `serve` to close its connections in order: `shutdown_timeout`, and what it takes to close the ledger.
const STOP_LIMIT: Duration = Duration::from_secs(90);

/// A running `gateway serve`. Dropping it kills it.
#[derive(Debug)]
pub struct Gateway {
    dir: PathBuf,
    config: Config,
    log: PathBuf,
    process: Process,
}

impl Gateway {
    /// Starts the gateway with this configuration, in `dir`, which also gets its log; answers when
    /// it says that it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::NoKit`] without a binary, [`Error::File`], [`Error::Run`], [`Error::NotReady`] with
    /// the end of its log.
    pub async fn start(config: Config, dir: &Path) -> Result<Self> {
        let mut gateway = Self::spawn(config, dir)?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// As [`start`](Self::start), without waiting until it is ready: for one that should not be.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn spawn(config: Config, dir: &Path) -> Result<Self> {
        let log = canary::log_file().unwrap_or_else(|| dir.join("gateway.log"));
        let process = spawn(&config, dir, &log)?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            log,
            process,
        })
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] with the end of its log.
    pub async fn ready(&mut self) -> Result<()> {
        self.process.ready(&self.url("/readyz"), READY_LIMIT).await
    }

    /// The same, asked at the listener for metrics and health: of one whose public listener speaks TLS.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub async fn ready_by_admin(&mut self) -> Result<()> {
        let url = self.admin_url("/readyz");
        self.process.ready(&url, READY_LIMIT).await
    }

    /// Stops it in order: SIGTERM, and SIGKILL to its group after a minute.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.stop(STOP_LIMIT).await.map(|_| ())
    }

    /// How it ends once it was told to, by a [signal](Self::signal).
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for, [`Error::Late`] after a minute.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let ended = timeout(STOP_LIMIT, self.process.wait()).await;
        ended.unwrap_or_else(|_| Err(Error::Late(STOP_LIMIT, "its end".to_owned())))
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn kill9(&mut self) -> Result<()> {
        self.process.kill().await.map(|_| ())
    }

    /// Starts it again after [`kill`](Self::kill) or [`kill9`](Self::kill9), with the same
    /// configuration, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.config, &self.dir, &self.log)?;
        self.ready().await
    }

    /// Stops it in order if it runs, and starts it again.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.start_again().await
    }

    /// Sends it a signal: by `STOP` it is a gateway that hangs, until `CONT`.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Makes it read another configuration, by SIGHUP.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn reload(&mut self, config: Config) -> Result<()> {
        write(&config, &self.dir)?;
        self.config = config;
        self.process.signal(Signal::HUP);
        Ok(())
    }

    /// `http://` URL of a path on the public listener.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        url("http", self.config.public, path)
    }

    /// `ws://` URL of a path on the public listener.
    #[must_use]
    pub fn ws_url(&self, path: &str) -> String {
        url("ws", self.config.public, path)
    }

    /// `http://` URL of a path on the egress listener.
    #[must_use]
    pub fn egress_url(&self, path: &str) -> String {
        url("http", self.config.egress, path)
    }

    /// `http://` URL of a path on the listener for metrics and health.
    #[must_use]
    pub fn admin_url(&self, path: &str) -> String {
        url("http", self.config.admin, path)
    }

    /// The configuration it was started with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its process, for signals and its id.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Everything it has printed.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn log(&self) -> Result<String> {
        let path = self.process.log();
        fs::read_to_string(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
    }
}

fn spawn(config: &Config, dir: &Path, log: &Path) -> Result<Process> {
    let binary =
        env::var_os(VARIABLE).ok_or_else(|| Error::NoKit(format!("{VARIABLE} is not set")))?;
    let path = write(config, dir)?;
    let mut command = Command::new(binary);
    // The gateway takes settings and secrets from its environment: only what a test sets counts.
    command
        .env_clear()
        .arg("serve")
        .arg("--config")
        .arg(path)
        .current_dir(dir);
    // At its finest level it must tell no secret either: see `canary`.
    command.env("GATEWAY_LOG", "trace");
    command.envs(env::vars_os().filter(|(name, _)| name == "PATH" || name == "GATEWAY_LOG"));
    command.envs(config.env.iter().map(|(name, value)| (name, value)));
    Process::spawn("the gateway", command, log.to_owned())
}

fn write(config: &Config, dir: &Path) -> Result<PathBuf> {
    let path = dir.join("gateway.toml");
    fs::write(&path, &config.text).map_err(|source| Error::File {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

fn url(scheme: &str, address: SocketAddr, path: &str) -> String {
    format!("{scheme}://{address}{path}")
}
