use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::of_whom::OfWhom;
use crate::cli::operate::{OperateError, Table, download, print, read, taken};
use crate::operator::{ClientError, OperatorClient};

#[derive(Debug, Args)]
pub(super) struct Records {
    #[command(flatten)]
    of: OfWhom,
    /// Go on before this one: `next` of the answer before, with --json.
    #[arg(long, value_name = "RECORD", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    before: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    of: OfWhom,
    /// A table, or a record on each line.
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// The file that is made, readable by its owner alone.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Csv,
    Jsonl,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    started_at: String,
    user_id: String,
    operation: String,
    model: Option<String>,
    total_tokens: u64,
    cost: Option<String>,
    source: String,
    outcome: String,
}

// === impl Records ===

impl Records {
    /// Asks, and prints the answer.
    pub(super) async fn run(self, client: &OperatorClient, json: bool) -> Result<(), OperateError> {
        let limit = self.limit.to_string();
        let more = [("limit", Some(&*limit)), ("before", self.before.as_deref())];
        let path = self.of.path("/api/admin/usage/records", more);
        let answer = client.request(Method::GET, &path, None).await?;
        print(json, answer, shown)
    }
}

// === impl Export ===

impl Export {
    /// Writes the file, and says how long it is.
    pub(super) async fn run(self, client: &OperatorClient, json: bool) -> Result<(), OperateError> {
        let format = match self.format {
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
        };
        let path = self
            .of
            .path("/api/admin/usage/export", [("format", Some(format))]);
        let bytes = download(client, &path, &self.output).await?;
        print(json, json!({ "bytes": bytes }), |_| {
            Ok(format!("{bytes} bytes written\n"))
        })
    }
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let records: Vec<Record> = read(taken(answer, "records"))?;
    let mut table = Table::new([
        "BEGUN", "USER", "WHAT", "MODEL", "TOKENS", "USD", "SOURCE", "OUTCOME",
    ]);
    for record in records {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            record.started_at,
            record.user_id,
            record.operation,
            or_none(record.model),
            record.total_tokens.to_string(),
            or_none(record.cost),
            record.source,
            record.outcome,
        ]);
    }
    Ok(table.to_string())
}
