//! `gateway audit …`: what administrators have done, on the gateway's own host.

use std::io::{ErrorKind, Write};

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::operate::{OperateError, Reach, Table, print, read};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

/// Shows what administrators have done, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The latest rows of the log.
    ///
    /// An act that changes the gateway's tables only has one row. Any other has two: `begun`, and how it ended.
    #[command(
        after_help = "Examples:\n  gateway audit list --user alice\n  gateway audit list --action user.delete --from 2026-11-01"
    )]
    List(List),
    /// Every row of the log, the latest first, one JSON object a line.
    #[command(after_help = "Example: gateway audit export --json --from 2026-11-01 > audit.jsonl")]
    Export(Filter),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// How many rows.
    #[arg(long, value_name = "ROWS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
}

#[derive(Debug, Args)]
struct Filter {
    /// Who has done it: a user id, the number of an operating-system user, or SIGHUP.
    #[arg(long, value_name = "ID")]
    who: Option<String>,
    /// The user that it was done to.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// What was done, such as `user.disable`.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// The rows of one act.
    #[arg(long, value_name = "ID")]
    act: Option<String>,
    /// The first day, in UTC.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The last day, in UTC.
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Row {
    at: String,
    who: Who,
    address: Option<String>,
    action: String,
    user: Option<String>,
    object: Option<String>,
    before: Option<Value>,
    after: Option<Value>,
    result: String,
    code: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Who {
    kind: String,
    id: String,
}

/// Rows that are asked for at a time.
const PAGE: u16 = 500;

// === impl Audit ===

impl Audit {
    /// Asks, and prints the answer.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        match self.what {
            What::List(List { filter, limit }) => {
                let path = filter.path(limit, None);
                let answer = client.request(Method::GET, &path, None).await?;
                print(self.reach.json, answer, shown)
            }
            What::Export(filter) => export(&client, &filter).await,
        }
    }
}

// === impl Filter ===

impl Filter {
    fn path(&self, limit: u16, before: Option<&str>) -> String {
        let mut path = format!("/api/admin/audit?limit={limit}");
        for (name, value) in [
            ("who", self.who.as_deref()),
            ("user", self.user.as_deref()),
            ("action", self.action.as_deref()),
            ("act", self.act.as_deref()),
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("before", before),
        ] {
            if let Some(value) = value {
                path += &format!("&{name}={}", percent_encoded(value));
            }
        }
        path
    }
}

/// Prints row by row, page by page.
async fn export(client: &OperatorClient, filter: &Filter) -> Result<(), OperateError> {
    let mut path = filter.path(PAGE, None);
    loop {
        let mut answer = client.request(Method::GET, &path, None).await?;
        let rows = answer.get_mut("audit").map(Value::take);
        let rows: Vec<Value> = read(rows.unwrap_or_default())?;
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        match std::io::stdout().write_all(lines.as_bytes()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(ClientError::Write)?,
        }
        match answer.get("next").and_then(Value::as_str) {
            Some(next) => path = filter.path(PAGE, Some(next)),
            None => return Ok(()),
        }
    }
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let mut answer = answer;
    let rows = answer.get_mut("audit").map(Value::take);
    let rows: Vec<Row> = read(rows.unwrap_or_default())?;
    let mut table = Table::new([
        "WHEN", "WHO", "FROM", "WHAT", "ON", "BEFORE", "AFTER", "RESULT",
    ]);
    let text = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let json = |value: Option<Value>| text(value.map(|value| value.to_string()));
    for row in rows {
        let on: Vec<_> = [row.user, row.object].into_iter().flatten().collect();
        let result = [Some(row.result), row.code];
        let result: Vec<_> = result.into_iter().flatten().collect();
        table.row([
            row.at,
            format!("{} {}", row.who.kind, row.who.id),
            text(row.address),
            row.action,
            text((!on.is_empty()).then(|| on.join(" "))),
            json(row.before),
            json(row.after),
            result.join(": "),
        ]);
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_shown_in_a_line() {
        let row = json!({
            "id": "2", "act": "1", "at": "2026-11-01T00:00:00Z", "who": {"kind": "operator", "id": "0"},
            "address": "unix:7", "action": "user.unassign", "user": "ali\nce", "object": "one",
            "before": {"instance": "one"}, "after": null, "result": "refused", "code": "not_found",
        });
        let shown = shown(json!({ "audit": [row], "next": null })).unwrap();
        let line = shown.lines().nth(1).unwrap();
        let expected = "2026-11-01T00:00:00Z  operator 0  unix:7  user.unassign  ali\\nce one  {\"instance\":\"one\"}  -      refused: not_found";
        assert_eq!(line, expected);
    }
}
