//! The real OpenClaw, for `gateway dev --openclaw`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use thiserror::Error;
use tokio::process::{Child, Command};

/// How long it may take to end in order.
const STOP: Duration = Duration::from_secs(10);

/// A running OpenClaw in a process group of its own. Dropping it kills it.
#[derive(Debug)]
pub struct OpenClaw {
    child: Child,
}

/// Why it does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenClawError {
    /// There is no such command.
    #[error(
        "`{command}` cannot be started ({source}); install OpenClaw with `npm install -g openclaw`, or name the command: --openclaw=/path/to/openclaw"
    )]
    Start {
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// Its files cannot be written.
    #[error("its files cannot be written: {0}")]
    Files(#[from] io::Error),
}

// === impl OpenClaw ===

impl OpenClaw {
    /// Starts `command` with everything it keeps below `dir`.
    ///
    /// # Errors
    ///
    /// See [`OpenClawError`].
    pub fn start(
        command: &str,
        dir: &Path,
        address: SocketAddr,
        password: &str,
    ) -> Result<Self, OpenClawError> {
        for below in ["home", "state", "workspace"] {
            fs::create_dir_all(dir.join(below))?;
        }
        let config = dir.join("openclaw.json");
        // It keeps the file that it finds at its very first start and takes no other afterwards.
        if !config.exists() {
            fs::write(&config, configuration(dir, address, password).to_string())?;
        }
        let log = fs::File::create(dir.join("stdout.log"))?;
        let child = Command::new(command)
            .args(["gateway", "run", "--port", &address.port().to_string()])
            .current_dir(dir)
            .env("HOME", dir.join("home"))
            .env("NO_COLOR", "1")
            .env("DO_NOT_TRACK", "1")
            .env("OPENCLAW_STATE_DIR", dir.join("state"))
            .env("OPENCLAW_CONFIG_PATH", &config)
            .env("OPENCLAW_DISABLE_BONJOUR", "1")
            .env("OPENCLAW_NO_AUTO_UPDATE", "1")
            .env("OPENCLAW_NO_RESPAWN", "1")
            .env("OPENCLAW_SKIP_CHANNELS", "1")
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let child = child.map_err(|source| OpenClawError::Start {
            command: command.to_owned(),
            source,
        })?;
        Ok(Self { child })
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) {
        let _ = self.child.wait().await;
    }

    /// Ends it and whatever it has started: in order if it obeys within ten seconds.
    pub async fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
            self.signal(rustix::process::Signal::KILL);
            let _ = self.child.wait().await;
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let group = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}

/// The smallest configuration that lets the gateway's people in and reaches nobody else.
fn configuration(dir: &Path, address: SocketAddr, password: &str) -> serde_json::Value {
    json!({
        "gateway": {
            "mode": "local", "port": address.port(), "bind": "loopback", "trustedProxies": ["127.0.0.1"],
            "auth": {
                "mode": "trusted-proxy", "password": password,
                "trustedProxy": {
                    "userHeader": "x-forwarded-user", "requiredHeaders": [], "allowLoopback": true,
                    "deviceAutoApprove": {"enabled": true, "scopes": ["operator.read", "operator.write"]},
                },
            },
            "controlUi": {"enabled": true, "allowedOrigins": ["https://proxy.internal"]},
            "terminal": {"enabled": false},
        },
        "logging": {"file": dir.join("openclaw.log")},
        "models": {"mode": "replace", "catalogRefresh": {"enabled": false}, "providers": {}},
        "agents": {"defaults": {
            "workspace": dir.join("workspace"), "heartbeat": {"every": "0m"}, "utilityModel": "",
        }},
        "skills": {"workshop": {"autonomous": {"mode": "off"}}},
        "plugins": {"enabled": false},
        "browser": {"enabled": false},
        "telemetry": {"enabled": false},
        "update": {"checkOnStart": false},
    })
}
