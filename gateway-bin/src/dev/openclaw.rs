//! The real OpenClaw, for `gateway dev --openclaw`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use thiserror::Error;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// How long it may take to end in order.
const STOP: Duration = Duration::from_secs(10);

/// A running OpenClaw in a process group of its own, which a task of the runtime that started it waits for.
#[derive(Debug)]
pub struct OpenClaw {
    group: Option<Pid>,
    ended: CancellationToken,
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
    /// Starts `command` with everything it keeps below `dir`, and waits for its end on the current runtime.
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
        let mut child = child.map_err(|source| OpenClawError::Start {
            command: command.to_owned(),
            source,
        })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let ended = CancellationToken::new();
        let ending = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _ending = ending;
            let _ = child.wait().await;
        });
        Ok(Self {
            group: id.and_then(Pid::from_raw),
            ended,
        })
    }

    /// Is cancelled when it has ended.
    #[must_use]
    pub const fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Ends it and whatever it has started: in order if it obeys within ten seconds.
    pub async fn stop(self) {
        self.signal(Signal::TERM);
        let ended = self.ended.cancelled();
        if tokio::time::timeout(STOP, ended).await.is_err() {
            self.signal(Signal::KILL);
            self.ended.cancelled().await;
        }
    }

    fn signal(&self, signal: Signal) {
        // Of one that has ended, others may have the number by now.
        if let Some(group) = self.group.filter(|_| !self.ended.is_cancelled()) {
            let _ = kill_process_group(group, signal);
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
            "http": {"endpoints": {
                "chatCompletions": {"enabled": true},
                "responses": {"enabled": true, "files": {"allowUrl": false}, "images": {"allowUrl": false}},
            }},
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
