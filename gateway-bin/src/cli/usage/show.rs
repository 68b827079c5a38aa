use clap::{Args, ValueEnum};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::operate::{OperateError, Table, print, read};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The user's id; everybody if it is left out.
    #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// The first day, in UTC; 30 days ago if it is left out.
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<String>,
    /// The last day, in UTC; today if it is left out.
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<String>,
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

fn day(text: &str) -> Result<String, &'static str> {
    match crate::prices::parse_day(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("write a day like 2026-01-31"),
    }
}

// === impl Show ===

impl Show {
    /// Asks, and prints the answer.
    pub(super) async fn run(self, client: &OperatorClient, json: bool) -> Result<(), OperateError> {
        let by = self.by.name();
        let mut path = format!("/api/admin/usage?group_by={by}");
        for (name, value) in [("user", &self.user), ("from", &self.from), ("to", &self.to)] {
            if let Some(value) = value {
                path += &format!("&{name}={}", percent_encoded(value));
            }
        }
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
