//! How OpenClaw is configured and started for one person.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::directory::CellDir;
use super::members::STATE_DIR;

/// The variable by which OpenClaw gets its password, which is in no file that it writes and in no command line.
pub(super) const PASSWORD: &str = "OPENCLAW_GATEWAY_PASSWORD";

/// What every cell's process is started with, beside where it has its files.
const ENVIRONMENT: [(&str, &str); 7] = [
    ("DO_NOT_TRACK", "1"),
    ("NO_COLOR", "1"),
    ("OPENCLAW_DISABLE_BONJOUR", "1"),
    ("OPENCLAW_EXEC_SHELL_SNAPSHOT", "0"),
    ("OPENCLAW_NO_AUTO_UPDATE", "1"),
    // Or it would be another process than the one that was started.
    ("OPENCLAW_NO_RESPAWN", "1"),
    ("OPENCLAW_SKIP_CHANNELS", "1"),
];

/// What a cell is started with.
pub(super) struct Launch<'a> {
    pub(super) command: &'a Path,
    pub(super) dir: &'a CellDir,
    pub(super) os_user: Option<u32>,
    pub(super) port: u16,
    pub(super) password: &'a str,
}

// === impl Launch ===

impl Launch<'_> {
    /// Starts the process, in a process group of its own, so that it outlives us. It gets nothing of our environment but
    /// `PATH`.
    pub(super) fn spawn(&self, output: File) -> io::Result<Child> {
        let state = self.dir.state();
        let mut command = Command::new(self.command);
        command
            .args(["gateway", "run", "--port", &self.port.to_string()])
            .current_dir(&state)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(ENVIRONMENT)
            .env("HOME", &state)
            .env(STATE_DIR, &state)
            .env("OPENCLAW_CONFIG_PATH", self.dir.config())
            .env(PASSWORD, self.password)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        if let Some(os_user) = self.os_user {
            // Of a process that may choose its user, the further groups are dropped with it.
            command.uid(os_user).gid(os_user);
        }
        command.spawn()
    }
}

/// The configuration of a cell: what it had until now or, the first time, what `template` says, and over it what must be.
pub(super) fn configuration(
    template: &Value,
    existing: Option<&Value>,
    dir: &CellDir,
    port: u16,
    origin: &str,
) -> Value {
    let mut config = defaults(dir);
    merge(&mut config, existing.unwrap_or(template));
    merge(&mut config, &forced(dir, port, origin));
    config
}

/// What an operator's template may say otherwise.
fn defaults(dir: &CellDir) -> Value {
    json!({
        "agents": {"defaults": {
            "workspace": dir.state().join("workspace"),
            // Model calls that nobody asked for.
            "heartbeat": {"every": "0m"},
            "utilityModel": "",
        }},
        "browser": {"enabled": false},
        "models": {"mode": "replace", "providers": {}},
        "plugins": {"enabled": false},
        "skills": {"workshop": {"autonomous": {"mode": "off"}}},
    })
}

/// What the gateway depends on, and what would reach others. The password comes in the environment.
fn forced(dir: &CellDir, port: u16, origin: &str) -> Value {
    json!({
        "gateway": {
            "mode": "local",
            "port": port,
            "bind": "loopback",
            // Nobody is believed who says that they are somebody.
            "trustedProxies": null,
            "auth": {"mode": "password", "password": null, "token": null, "trustedProxy": null},
            "http": {"endpoints": {
                "chatCompletions": {"enabled": true},
                "responses": {"enabled": true, "files": {"allowUrl": false}, "images": {"allowUrl": false}},
            }},
            "controlUi": {"enabled": true, "allowedOrigins": [origin]},
            "terminal": {"enabled": false},
        },
        // The default one is shared by every OpenClaw of the host.
        "logging": {"file": dir.log()},
        "models": {"catalogRefresh": {"enabled": false}},
        "telemetry": {"enabled": false},
        "update": {"checkOnStart": false},
    })
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
    use tower_workspace::DirectoryName;

    use super::super::directory::CellsDir;
    use super::*;

    #[test]
    fn what_must_be_stands_over_what_somebody_else_says() {
        let dir = tempfile::tempdir().unwrap();
        let cells = CellsDir::open(&dir.path().join("cells")).unwrap();
        let dir = cells.of(&DirectoryName::for_user("alice").unwrap());
        let origin = "https://proxy.internal";
        let template = json!({
            "plugins": {"enabled": true},
            "gateway": {
                "bind": "lan", "port": 1, "auth": {"mode": "none", "token": "t", "password": "p", "rateLimit": {"a": 1}},
                "trustedProxies": ["0.0.0.0/0"],
            },
            "logging": {"file": "/tmp/shared.log", "level": "debug"},
        });
        let first = configuration(&template, None, &dir, 20_000, origin);
        let gateway = &first["gateway"];
        assert_eq!(gateway["bind"], "loopback");
        assert_eq!(gateway["port"], 20_000);
        assert_eq!(
            gateway["auth"],
            json!({"mode": "password", "rateLimit": {"a": 1}}),
            "and nothing else to sign in by"
        );
        assert_eq!(gateway.get("trustedProxies"), None);
        assert_eq!(gateway["controlUi"]["allowedOrigins"], json!([origin]));
        assert_eq!(first["plugins"]["enabled"], true);
        assert_eq!(first["skills"]["workshop"]["autonomous"]["mode"], "off");
        assert_eq!(first["logging"]["level"], "debug");
        assert_eq!(first["logging"]["file"], dir.log().to_str().unwrap());

        let mut changed = first;
        changed["agents"]["entries"] = json!({"user-alice": {"workspace": "/w"}});
        changed["gateway"]["bind"] = "lan".into();
        let again = configuration(&json!({"new": 1}), Some(&changed), &dir, 20_001, origin);
        assert_eq!(again["agents"]["entries"]["user-alice"]["workspace"], "/w");
        assert_eq!(again["gateway"]["bind"], "loopback");
        assert_eq!(again["gateway"]["port"], 20_001);
        assert_eq!(
            again.get("new"),
            None,
            "a template is for the first time only"
        );
    }
}
