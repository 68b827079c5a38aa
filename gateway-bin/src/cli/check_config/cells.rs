//! Whether cells could be started.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::ANSWER;
use super::files::{Place, place_of_new, writable};
use super::report::Check;
use crate::cells::{Settings, find_free_port};
use crate::config::Config;

/// Where nothing is and nothing can be made: a program that is only asked for its version needs no home.
const NOWHERE: &str = "/proc/nowhere";

/// Looks at program, rights, directory and ports, if the gateway starts cells at all.
pub(super) fn check(config: &Config) -> Vec<Check> {
    const KEY: &str = "cells";
    let settings = match Settings::new(config) {
        Ok(Some(settings)) => settings,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Check::wrong(KEY, error.to_string())],
    };
    let mut checks = Vec::new();
    if let Err(error) = settings.check() {
        // The sentence begins with the key.
        let text = error.to_string();
        let (key, says) = text.split_once(": ").unwrap_or((KEY, &text));
        checks.push(Check::wrong(key, says));
    }
    let dir = &settings.dir;
    let place = match dir.is_dir() {
        true => writable(&dir.join("any")),
        false => place_of_new(dir),
    };
    checks.push(match place {
        Place::Good => Check::ok("cells.dir", format!("{} can be used", dir.display())),
        Place::Bad(why) => Check::wrong(
            "cells.dir",
            format!("{} cannot be used: {why}", dir.display()),
        ),
    });
    if let Err(error) = find_free_port() {
        let says = format!("{error}; end what listens there (`ss -ltnp` says which)");
        checks.push(Check::wrong(KEY, says));
    }
    checks
}

/// Has the program say its version. One that is not there is told of by [`check`].
pub(super) async fn runs(config: &Config) -> Vec<Check> {
    const KEY: &str = "cells.command";
    let Ok(Some(settings)) = Settings::new(config) else {
        return Vec::new();
    };
    match version(&settings.command).await {
        Ok(None) => Vec::new(),
        Ok(Some(said)) => vec![Check::ok(
            KEY,
            format!("`{}` runs: {said}", settings.command.display()),
        )],
        Err(why) => vec![Check::wrong(
            KEY,
            format!(
                "`{} --version` {why}; run it by hand as the gateway's user, and see what is missing (OpenClaw needs Node)",
                settings.command.display()
            ),
        )],
    }
}

/// The first line that it prints; `None` if there is no such program.
async fn version(command: &Path) -> Result<Option<String>, String> {
    let mut asked = Command::new(command);
    asked
        .arg("--version")
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
        .env("HOME", NOWHERE)
        .env("OPENCLAW_STATE_DIR", NOWHERE)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match timeout(ANSWER * 2, asked.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(Err(error)) => return Err(format!("cannot be started: {error}")),
        Err(_) => {
            return Err(format!(
                "does not end within {} seconds",
                ANSWER.as_secs() * 2
            ));
        }
    };
    if !output.status.success() {
        return Err(format!("fails ({})", output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let first: String = said
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(80)
        .collect();
    Ok(Some(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_is_asked_for_its_version() {
        let of = async |command: &str| version(Path::new(command)).await;
        assert!(of("env").await.unwrap().unwrap().contains("env"));
        assert!(of("false").await.unwrap_err().starts_with("fails"));
        assert_eq!(of("no-such-program-anywhere").await, Ok(None));
        assert!(of("/").await.unwrap_err().starts_with("cannot be started"));
    }
}
