//! Scripts in `node/`, as programs of their own.

use std::{fs, path::Path, time::Duration};

use crate::{
    error::{Error, Result},
    install::Install,
    process::Process,
};

/// Where they are, beside this crate's sources.
pub(crate) const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node");

/// Runs `node/<name>.mjs` with `MODULES` and these variables in its environment, and nothing else of this process', and
/// answers all that it has printed, which is in `log` too.
///
/// # Errors
///
/// [`Error::NotReady`] with the end of what it printed when it fails, or has not ended after `limit`; [`Error::File`] for
/// the log.
pub async fn run(
    install: &Install,
    name: &str,
    environment: &[(&str, &str)],
    log: &Path,
    limit: Duration,
) -> Result<String> {
    let mut command = install.command();
    command
        .arg(Path::new(SCRIPTS).join(format!("{name}.mjs")))
        .env("MODULES", &install.modules)
        .envs(environment.iter().copied());
    let mut process = Process::spawn("the script", command, log.to_owned())?;
    process.succeed(limit).await?;
    fs::read_to_string(log).map_err(|source| Error::File {
        path: log.to_owned(),
        source,
    })
}
