use clap::{Args, ValueEnum};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::of_whom::OfWhom;
use crate::cli::operate::{OperateError, Table, print, read};
use crate::operator::{ClientError, OperatorClient};

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    of: OfWhom,
    /// What it is added up by.
    #[arg(long, value_enum, default_value_t = By::Day)]
    by: By,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Day,
    Model,
    Session,
    User,
}

#[derive(Debug, Deserialize)]
struct Shown {
    total: Sum,
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sum {
    runs: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    cache_write_tokens: u64,
    total_tokens: u64,
    cost: String,
    unpriced: u64,
    estimated: u64,
}

#[derive(Debug, Deserialize)]
struct Group {
    #[serde(flatten)]
    sum: Sum,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

// === impl Show ===

impl Show {
    /// Asks, and prints the answer.
    pub(super) async fn run(self, client: &OperatorClient, json: bool) -> Result<(), OperateError> {
        let by = self.by.name();
        let path = self.of.path("/api/admin/usage", [("group_by", Some(by))]);
        let answer = client.request(Method::GET, &path, None).await?;
        print(json, answer, |answer| shown(answer, by))
    }
}

// === impl By ===

impl By {
    const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Model => "model",
            Self::Session => "session",
            Self::User => "user",
        }
    }
}

fn shown(answer: Value, by: &str) -> Result<String, ClientError> {
    let shown: Shown = read(answer)?;
    let heading = by.to_ascii_uppercase();
    let mut table = Table::new([
        &*heading,
        "RUNS",
        "INPUT",
        "OUTPUT",
        "CACHE READ",
        "CACHE WRITE",
        "TOKENS",
        "USD",
        "UNPRICED",
        "ESTIMATED",
    ]);
    for Group { sum, rest } in &shown.groups {
        let key = rest.get(by).and_then(Value::as_str).unwrap_or("-");
        table.row(sum.cells(key));
    }
    table.row(shown.total.cells("total"));
    Ok(table.to_string())
}

// === impl Sum ===

impl Sum {
    fn cells(&self, key: &str) -> [String; 10] {
        [
            key.to_owned(),
            self.runs.to_string(),
            self.input_tokens.to_string(),
            self.output_tokens.to_string(),
            self.cache_read_tokens.to_string(),
            self.cache_write_tokens.to_string(),
            self.total_tokens.to_string(),
            self.cost.clone(),
            self.unpriced.to_string(),
            self.estimated.to_string(),
        ]
    }
}
