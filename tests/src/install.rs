//! Where Node and OpenClaw are installed.

use std::{ffi::OsString, path::PathBuf};

use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// What `tests/run` has installed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Install {
    /// The `node` executable.
    pub node: PathBuf,
    /// The `node_modules` that holds `openclaw` and `oidc-provider`.
    pub modules: PathBuf,
}

impl Install {
    /// An installation.
    #[must_use]
    pub fn new(node: PathBuf, modules: PathBuf) -> Self {
        Self { node, modules }
    }

    /// A `node` command with nothing in its environment but a `PATH` that finds this Node first:
    /// what runs in a test must not see credentials, proxies or another instance's settings.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.node);
        command.env_clear().env("PATH", self.path());
        command
    }

    fn path(&self) -> OsString {
        let mut path = self
            .node
            .parent()
            .map(PathBuf::from)
            .unwrap_or_default()
            .into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        path
    }
}
