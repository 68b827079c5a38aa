//! What the commands have in common that ask a gateway by its socket.

mod table;

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

pub(super) use self::table::{Table, printable};
use crate::config::{self, ConfigError};
use crate::operator::{ClientError, MAX_PATH, OperatorClient, percent_encoded};

/// How the gateway is reached, and how its answer is shown.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// The gateway's configuration file, which says where its socket is.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "gateway.toml"
    )]
    config: PathBuf,
    /// The gateway's socket itself, in place of the file.
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Print the gateway's answer as it is, in JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Why it was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum OperateError {
    /// The configuration does not say where the socket is.
    #[error("{0}; name the file by --config, or the gateway's socket by --socket")]
    Config(#[from] ConfigError),
    /// An argument is wrong.
    #[error("{0}")]
    Argument(String),
    /// The gateway has not done it.
    #[error("{}", printable(&.0.to_string()))]
    Client(#[from] ClientError),
}

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(answer: Value) -> Result<T, ClientError> {
    serde_json::from_value(answer).map_err(|_| ClientError::Answer)
}

/// All of `member` of what `path` answers page by page.
pub(super) async fn all_pages(
    client: &OperatorClient,
    path: &str,
    member: &str,
) -> Result<Vec<Value>, ClientError> {
    let mut all = Vec::new();
    let mut page_path = path.to_owned();
    loop {
        let answer = client.request(Method::GET, &page_path, None).await?;
        let next = answer.get("next").and_then(Value::as_str);
        let next = next.map(|next| format!("{path}?after={}", percent_encoded(next)));
        let page: Vec<Value> = read(taken(answer, member))?;
        all.extend(page);
        match next {
            Some(next) => page_path = next,
            None => return Ok(all),
        }
    }
}

/// Takes a member out of an answer; null if it is not there.
pub(super) fn taken(mut answer: Value, member: &str) -> Value {
    answer.get_mut(member).map(Value::take).unwrap_or_default()
}

/// Prints an answer as it is, or as it is shown to people.
pub(super) fn print(
    json: bool,
    answer: Value,
    shown: impl FnOnce(Value) -> Result<String, ClientError>,
) -> Result<(), OperateError> {
    let text = match json {
        true => format!("{answer}\n"),
        false => shown(answer)?,
    };
    // Whoever reads may have seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Writes what `path` answers to where nothing is yet, for our eyes only; nothing is left of what is not whole. Its length
/// in bytes.
pub(super) async fn download(
    client: &OperatorClient,
    path: &str,
    output: &Path,
) -> Result<u64, OperateError> {
    let mut new = OpenOptions::new();
    let file = new.write(true).create_new(true).mode(0o600).open(output);
    let file = file.map_err(|error| {
        OperateError::Argument(format!("--output {}: {error}", output.display()))
    })?;
    let written = client.download(path, BufWriter::new(&file)).await;
    let written = written.and_then(|length| {
        let synced = file.sync_all().map_err(ClientError::Write);
        synced.map(|()| length)
    });
    if written.is_err() {
        let _ = fs::remove_file(output);
    }
    Ok(written?)
}

/// Says that something is done of which there is nothing to show.
pub(super) fn done(json: bool, word: &'static str) -> Result<(), OperateError> {
    print(json, Value::Null, |_| Ok(word.to_owned()))
}

// === impl Reach ===

impl Reach {
    /// Where the gateway listens for operators.
    pub(super) fn socket(&self) -> Result<PathBuf, OperateError> {
        let Some(socket) = &self.socket else {
            return Ok(config::read(&self.config)?.socket());
        };
        match (1..=MAX_PATH).contains(&socket.as_os_str().len()) {
            true => Ok(socket.clone()),
            false => Err(OperateError::Argument(format!(
                "--socket {}: must have 1 to {MAX_PATH} bytes, as every Unix socket",
                socket.display()
            ))),
        }
    }
}
