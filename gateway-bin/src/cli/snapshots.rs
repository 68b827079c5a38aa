//! `gateway users snapshot` and `snapshots`: what there was of somebody.

use std::fmt::Write;

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::operate::{Table, read};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    #[serde(rename = "type")]
    what: String,
    taken_at: String,
    data: Value,
}

/// Takes one now.
pub(super) async fn take(client: &OperatorClient, user: &str) -> Result<Value, ClientError> {
    client.request(Method::POST, &path_of(user), None).await
}

/// All of somebody's, page by page.
pub(super) async fn list(client: &OperatorClient, user: &str) -> Result<Vec<Value>, ClientError> {
    let mut all = Vec::new();
    let mut path = path_of(user);
    loop {
        let mut answer = client.request(Method::GET, &path, None).await?;
        let page = answer.get_mut("snapshots").map(Value::take);
        let page: Vec<Value> = read(page.unwrap_or_default())?;
        all.extend(page);
        match answer.get("next").and_then(Value::as_str) {
            Some(next) => path = format!("{}?after={}", path_of(user), percent_encoded(next)),
            None => return Ok(all),
        }
    }
}

pub(super) fn shown(answer: Value) -> Result<String, ClientError> {
    let mut answer = answer;
    let snapshots = answer.get_mut("snapshots").map(Value::take);
    let snapshots: Vec<Taken> = read(snapshots.unwrap_or_default())?;
    let mut table = Table::new(["TAKEN", "WHAT", ""]);
    for snapshot in snapshots {
        let summary = summary(&snapshot);
        table.row([snapshot.taken_at, snapshot.what, summary]);
    }
    Ok(table.to_string())
}

/// A snapshot in a line.
fn summary(snapshot: &Taken) -> String {
    let data = &snapshot.data;
    let at = |pointer: &str| match data.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    match &*snapshot.what {
        "workspace_files" if data.get("total").is_some() => format!(
            "{} files, {} bytes, {}",
            at("/total/files"),
            at("/total/bytes"),
            at("/state")
        ),
        "api_keys" => format!(
            "{} virtual, {} access tokens, own at {}",
            at("/virtualKeys/inForce"),
            at("/accessTokens/inForce"),
            at("/providerKeys")
        ),
        "quota_status" => quota(data),
        "sandbox_status" if data.get("hasSandbox").is_some() => format!(
            "{} on {}, {}, sandbox: {}",
            at("/agent"),
            at("/instance"),
            at("/state"),
            at("/hasSandbox")
        ),
        _ => at("/state"),
    }
}

fn quota(data: &Value) -> String {
    let limits = data.get("limits").and_then(Value::as_array);
    let mut text = String::new();
    for limit in limits.into_iter().flatten() {
        let of = |name: &str| match limit.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => "unlimited".to_owned(),
            Some(value) => value.to_string(),
        };
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(
            text,
            "{separator}{} a {}: {} of {}",
            of("dimension"),
            of("window"),
            of("used"),
            of("limit")
        );
    }
    text
}

fn path_of(user: &str) -> String {
    format!("/api/admin/users/{}/snapshots", percent_encoded(user))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_snapshot_is_shown_in_a_line() {
        let of = |what: &str, data: Value| json!({"id": "1", "type": what, "takenAt": "2026-11-01T00:00:00Z", "data": data});
        let limits = [
            json!({"dimension": "tokens", "window": "day", "used": 5, "limit": 10}),
            json!({"dimension": "cost", "window": "month", "used": "1.5", "limit": null}),
        ];
        let snapshots = [
            of(
                "workspace_files",
                json!({"state": "whole", "total": {"files": 3, "bytes": 70}}),
            ),
            of("workspace_files", json!({"state": "none"})),
            of(
                "api_keys",
                json!({"virtualKeys": {"inForce": 1, "ended": 0}, "providerKeys": ["openai"],
                "accessTokens": {"inForce": 2, "expired": 0}}),
            ),
            of("quota_status", json!({ "limits": limits })),
            of(
                "sandbox_status",
                json!({"state": "ready", "agent": "slot-001", "instance": "one", "hasSandbox": false}),
            ),
            of("sandbox_status", json!({"state": "none"})),
        ];
        let shown = shown(json!({ "snapshots": snapshots })).unwrap();
        let lines: Vec<_> = shown.lines().skip(1).collect();
        let ends = [
            "3 files, 70 bytes, whole",
            "workspace_files  none",
            "1 virtual, 2 access tokens, own at [\"openai\"]",
            "tokens a day: 5 of 10, cost a month: 1.5 of unlimited",
            "slot-001 on one, ready, sandbox: false",
            "sandbox_status   none",
        ];
        assert_eq!(lines.len(), ends.len());
        for (line, end) in lines.into_iter().zip(ends) {
            assert!(line.ends_with(end), "{line}");
        }
    }
}
