//! `gateway alerts …`: limits that people have come near to, on the gateway's own host.

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::operate::{OperateError, Reach, Table, print, read, taken};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

/// Shows alerts and deals with them, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Alerts {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The latest two hundred alerts.
    #[command(
        after_help = "Examples:\n  gateway alerts list\n  gateway alerts list --user alice --state triggered"
    )]
    List(List),
    /// Say that an alert was seen.
    #[command(after_help = "Example: gateway alerts acknowledge ALERT")]
    Acknowledge(Alert),
    /// Say that an alert is dealt with, and how.
    #[command(
        after_help = "Example: gateway alerts resolve ALERT --note 'given more until Friday'"
    )]
    Resolve {
        #[command(flatten)]
        alert: Alert,
        /// How it was dealt with.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

#[derive(Debug, Args)]
struct List {
    /// Of this user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// In this state.
    #[arg(long)]
    state: Option<State>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Triggered,
    Acknowledged,
    Resolved,
}

#[derive(Debug, Args)]
struct Alert {
    /// The alert's id.
    #[arg(value_name = "ALERT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: String,
    user: String,
    limit: String,
    threshold: u8,
    used: Value,
    amount: Value,
    state: String,
    triggered_at: String,
    resolved_by: Option<String>,
    note: Option<String>,
}

// === impl Alerts ===

impl Alerts {
    /// Does it, and prints the alerts as they are then.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        let answer = match self.what {
            What::List(list) => client.request(Method::GET, &list.path(), None).await?,
            What::Acknowledge(alert) => {
                let path = alert.path("acknowledge");
                json!({ "alerts": [client.request(Method::POST, &path, None).await?] })
            }
            What::Resolve { alert, note } => {
                let (path, body) = (alert.path("resolve"), json!({ "note": note }));
                let resolved = client.request(Method::POST, &path, Some(&body)).await?;
                json!({ "alerts": [resolved] })
            }
        };
        print(self.reach.json, answer, shown)
    }
}

// === impl List ===

impl List {
    fn path(&self) -> String {
        let state = self.state.and_then(|state| state.to_possible_value());
        let state = state.as_ref().map(|state| state.get_name().to_owned());
        let filters = [("user", self.user.clone()), ("state", state)];
        let filters = filters.into_iter().filter_map(|(name, value)| {
            let value = percent_encoded(&value?);
            Some(format!("{name}={value}"))
        });
        let filters: Vec<_> = filters.collect();
        format!("/api/admin/alerts?{}", filters.join("&"))
    }
}

// === impl Alert ===

impl Alert {
    fn path(&self, act: &str) -> String {
        format!("/api/admin/alerts/{}/{act}", percent_encoded(&self.id))
    }
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let alerts: Vec<Listed> = read(taken(answer, "alerts"))?;
    if alerts.is_empty() {
        return Ok("no alerts\n".to_owned());
    }
    let mut table = Table::new(["ALERT", "USER", "LIMIT", "REACHED", "USED", "AT", "STATE"]);
    for alert in alerts {
        let plain = |amount: &Value| match amount {
            Value::String(dollars) => format!("${dollars}"),
            amount => amount.to_string(),
        };
        let mut state = alert.state;
        if let Some(by) = alert.resolved_by {
            state = format!("{state} by {by}");
        }
        if let Some(note) = alert.note {
            state = format!("{state}: {note}");
        }
        table.row([
            alert.id,
            alert.user,
            alert.limit,
            format!("{} %", alert.threshold),
            format!("{} of {}", plain(&alert.used), plain(&alert.amount)),
            alert.triggered_at,
            state,
        ]);
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_alerts_in_which_state_is_asked_for() {
        let path = |user: Option<&str>, state| {
            let user = user.map(str::to_owned);
            List { user, state }.path()
        };
        assert_eq!(path(None, None), "/api/admin/alerts?");
        assert_eq!(
            path(Some("a&b"), Some(State::Triggered)),
            "/api/admin/alerts?user=a%26b&state=triggered"
        );
    }

    #[test]
    fn who_has_dealt_with_it_and_how_is_shown() {
        let alert = json!({
            "id": "1", "user": "alice", "limit": "daily_cost", "threshold": 90, "windowStart": "2026-11-01T00:00:00Z",
            "used": "9.00", "amount": "10.00", "state": "resolved", "triggeredAt": "2026-11-01T09:00:00Z",
            "resolvedBy": "carol", "note": "given\nmore",
        });
        let shown = shown(json!({ "alerts": [alert] })).unwrap();
        let line = "1      alice  daily_cost  90 %     $9.00 of $10.00  2026-11-01T09:00:00Z  resolved by carol: given\\nmore";
        assert_eq!(shown.lines().nth(1), Some(line));
    }
}
