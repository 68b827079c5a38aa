//! One running instance.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::process::Command;

use super::config;
use crate::{
    error::{Error, Result},
    install::Install,
    port::free_address,
    process::Process,
    ws::Ws,
};

/// Node loads for 15 to 25 s; 49 s were seen on a machine that was busy with builds.
const READY_LIMIT: Duration = Duration::from_secs(180);

/// An instance lets running turns finish, for minutes if they take that long.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A running OpenClaw with a state directory of its own. Dropping it kills it.
#[derive(Debug)]
pub struct OpenClaw {
    install: Install,
    dir: PathBuf,
    address: SocketAddr,
    password: String,
    process: Process,
}

impl OpenClaw {
    /// Starts an instance that keeps everything in `dir`, which must be new, in trusted-proxy mode
    /// with `password` for the administration channel; answers when it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Run`], [`Error::NotReady`] with the end of its log.
    pub async fn start(install: Install, dir: &Path, password: &str) -> Result<Self> {
        Self::start_with(install, dir, password, &json!({})).await
    }

    /// As [`start`](Self::start), with a JSON merge patch (RFC 7396) over the configuration.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(
        install: Install,
        dir: &Path,
        password: &str,
        patch: &Value,
    ) -> Result<Self> {
        let address = free_address()?;
        let file = |source| Error::File {
            path: dir.to_owned(),
            source,
        };
        for below in ["home", "state", "workspace"] {
            fs::create_dir_all(dir.join(below)).map_err(file)?;
        }
        let dir = dir.canonicalize().map_err(file)?;
        let mut config = config::pool(&dir, address.port(), password);
        merge(&mut config, patch);
        fs::write(dir.join("openclaw.json"), config.to_string()).map_err(file)?;

        let process = spawn(&install, &dir)?;
        let mut instance = Self {
            install,
            dir,
            address,
            password: password.to_owned(),
            process,
        };
        instance.ready().await?;
        Ok(instance)
    }

    /// Stops the instance: in an orderly way if it obeys within 20 s, else by killing it.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(STOP_LIMIT).await.map(|_| ())
    }

    /// Kills the instance at once.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await.map(|_| ())
    }

    /// Starts a stopped or killed instance again, at the same address and with the same state.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.install, &self.dir)?;
        self.ready().await
    }

    /// Connects past any gateway, as the administration channel does: with the password, as nobody
    /// in particular, with these scopes. Answers the connection after `hello-ok`, and that.
    ///
    /// # Errors
    ///
    /// As [`operator`].
    pub async fn operator(&self, scopes: &[&str]) -> Result<(Ws, Value)> {
        operator(&self.url(), &self.password, scopes).await
    }

    /// The base URL, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The password of the administration channel.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Where it keeps its configuration, its state and its log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its process, for its log and for signals.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn ready(&mut self) -> Result<()> {
        let url = format!("{}/readyz", self.url());
        self.process.ready(&url, READY_LIMIT).await
    }
}

/// Connects to the instance at a base URL with its password. See [`OpenClaw::operator`].
///
/// # Errors
///
/// [`Error::Unexpected`] with a refusal, and what [`Ws`] says.
pub async fn operator(url: &str, password: &str, scopes: &[&str]) -> Result<(Ws, Value)> {
    let mut ws = Ws::connect(&url.replacen("http", "ws", 1), &[]).await?;
    ws.event("connect.challenge").await?;
    let hello = ws
        .call("connect", json!({
            "minProtocol": 4,
            "maxProtocol": 4,
            "client": {"id": "gateway-client", "version": "0.0.0", "platform": "linux", "mode": "backend"},
            "role": "operator",
            "scopes": scopes,
            "caps": [],
            "auth": {"password": password},
        }))
        .await?;
    Ok((ws, hello))
}

fn spawn(install: &Install, dir: &Path) -> Result<Process> {
    let mut command: Command = install.command();
    command
        .arg(install.modules.join("openclaw/openclaw.mjs"))
        .args(["gateway", "run"])
        .current_dir(dir)
        .env("HOME", dir.join("home"))
        .env("NO_COLOR", "1")
        .env("DO_NOT_TRACK", "1")
        .env("OPENCLAW_STATE_DIR", dir.join("state"))
        .env("OPENCLAW_CONFIG_PATH", dir.join("openclaw.json"))
        .env("OPENCLAW_DISABLE_BONJOUR", "1")
        .env("OPENCLAW_EXEC_SHELL_SNAPSHOT", "0")
        .env("OPENCLAW_NO_AUTO_UPDATE", "1")
        .env("OPENCLAW_NO_RESPAWN", "1")
        .env("OPENCLAW_SKIP_CHANNELS", "1");
    Process::spawn("OpenClaw", command, dir.join("stdout.log"))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match target.as_object_mut() {
            Some(object) if value.is_null() => drop(object.remove(key)),
            Some(object) => merge(object.entry(key.as_str()).or_insert(Value::Null), value),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7396, section 3.
    #[test]
    fn merges_as_the_rfc_shows() {
        let mut target = json!({"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}, "tags": ["example"]});
        let patch = json!({"title": "Hello!", "phone": "1", "author": {"familyName": null}, "tags": ["sample"]});
        merge(&mut target, &patch);
        assert_eq!(
            target,
            json!({"title": "Hello!", "phone": "1", "author": {"givenName": "John"}, "tags": ["sample"]})
        );
    }
}
