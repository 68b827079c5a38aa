//! A real browser, driven by a script in `node/`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    error::{Error, Result},
    install::Install,
    process::Process,
    script::SCRIPTS,
};

/// The names it has on the systems it runs on; `tests/run` looks for the same.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// Runs the script `node/<name>.mjs`, which is one for `node/browser.mjs`, with these variables in its environment and
/// nothing else of this process'. What it prints, and what it leaves when it fails, is in `dir`/browser.
///
/// # Errors
///
/// [`Error::NotReady`] with the end of what it printed when it fails, or has not ended after `limit`; [`Error::Run`] without
/// a Chromium.
pub async fn run_script(
    install: &Install,
    name: &str,
    environment: &[(&str, &str)],
    dir: &Path,
    limit: Duration,
) -> Result<()> {
    let output = dir.join("browser");
    let file = |source| Error::File {
        path: output.clone(),
        source,
    };
    // Its profile is there too, and goes with the rest.
    let home = output.join("home");
    fs::create_dir_all(&home).map_err(file)?;
    let mut command = install.command();
    command
        .arg(Path::new(SCRIPTS).join(format!("{name}.mjs")))
        .env("MODULES", &install.modules)
        .env("CHROMIUM", find()?)
        .env("OUTPUT", &output)
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .envs(environment.iter().copied());
    let log = output.join(format!("{name}.log"));
    let mut process = Process::spawn("the browser's script", command, log)?;
    // A script that is killed for taking too long takes Chromium with it, by the pipe between them.
    process.succeed(limit).await
}

fn find() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).flat_map(|dir| NAMES.map(|name| dir.join(name)));
    places
        .find(|place| place.is_file())
        .ok_or_else(|| Error::Run {
            program: NAMES.join(" or "),
            source: std::io::ErrorKind::NotFound.into(),
        })
}
