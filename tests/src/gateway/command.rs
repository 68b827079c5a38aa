use std::{env, path::Path, process::ExitStatus, time::Duration};

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::process::VARIABLE;
use crate::error::{Error, Result};

/// Some ask an instance about everybody.
const LIMIT: Duration = Duration::from_secs(300);

/// What has become of a command.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub text: String,
    /// What it complained of.
    pub error: String,
}

/// Runs `gateway ARGUMENTS --config gateway.toml`, with the configuration in `dir` and no environment, to its end.
///
/// # Errors
///
/// [`Error::NoKit`] without a binary, [`Error::Run`], and [`Error::Late`] after five minutes.
pub async fn command(dir: &Path, arguments: &[&str]) -> Result<Said> {
    run(arguments, "--config", &dir.join("gateway.toml")).await
}

/// The same with `--socket gateway.sock`, which needs no configuration that is right.
///
/// # Errors
///
/// As [`command`].
pub async fn command_by_socket(dir: &Path, arguments: &[&str]) -> Result<Said> {
    run(arguments, "--socket", &dir.join("gateway.sock")).await
}

async fn run(arguments: &[&str], reach: &str, path: &Path) -> Result<Said> {
    let binary = env::var_os(VARIABLE).ok_or_else(|| Error::NoKit(VARIABLE.to_owned()))?;
    let program = || format!("gateway {}", arguments.join(" "));
    let mut command = Command::new(binary);
    command
        .env_clear()
        .args(arguments)
        .arg(reach)
        .arg(path)
        .kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await;
    let output = output
        .map_err(|_| Error::Late(LIMIT, program()))?
        .map_err(|source| Error::Run {
            program: program(),
            source,
        })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said {
        status: output.status,
        text: text(&output.stdout),
        error: text(&output.stderr),
    })
}

// === impl Said ===

impl Said {
    /// What it printed, or what it complained of where it has not done what it says.
    ///
    /// # Errors
    ///
    /// The complaint.
    pub fn done(self) -> std::result::Result<String, String> {
        match self.status.success() {
            true => Ok(self.text),
            false => Err(self.error),
        }
    }

    /// What it printed, of a command that was asked for JSON.
    ///
    /// # Errors
    ///
    /// The complaint, or what is no JSON.
    pub fn json(self) -> std::result::Result<Value, String> {
        let text = self.done()?;
        serde_json::from_str(&text).map_err(|_| text)
    }
}
