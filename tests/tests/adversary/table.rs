//! The table against what a real instance says of itself, so that the next OpenClaw shows itself.

use std::collections::BTreeSet;

use gateway::protocol::{Advertised, EVENTS, ROWS, slash::COMMANDS};
use gateway_tests::{error::Result, kit::Kit, openclaw::operator};
use serde_json::{Value, json};

#[tokio::test]
async fn d3_39_every_method_event_and_command_of_the_instance_is_in_the_table() -> Result<()> {
    let kit = Kit::from_env()?;
    let scopes = ["operator.admin", "operator.read", "operator.write"];
    let (mut admin, hello) = operator(&kit.openclaw, &kit.openclaw_password, &scopes).await?;
    let version = &hello["server"]["version"];
    let named = |list: &Value| -> BTreeSet<String> {
        let names = list.as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut wrong = Vec::new();

    let methods = named(&hello["features"]["methods"]);
    assert!(methods.len() > 400, "{hello}");
    for name in &methods {
        match ROWS.iter().find(|row| row.name == name) {
            None => wrong.push(format!("method {name} has no row")),
            Some(row) if row.advertised == Advertised::No => {
                wrong.push(format!(
                    "method {name} is advertised, its row says that it is not"
                ));
            }
            Some(_) => {}
        }
    }
    for row in ROWS {
        if row.advertised == Advertised::Yes && !methods.contains(row.name) {
            wrong.push(format!("method {} is not advertised", row.name));
        }
    }

    let events = named(&hello["features"]["events"]);
    for name in &events {
        match EVENTS.iter().find(|row| row.name == name) {
            None => wrong.push(format!("event {name} has no row")),
            Some(row) if !row.advertised => {
                wrong.push(format!(
                    "event {name} is advertised, its row says that it is not"
                ));
            }
            Some(_) => {}
        }
    }
    for row in EVENTS {
        if row.advertised && !events.contains(row.name) {
            wrong.push(format!("event {} is not advertised", row.name));
        }
    }

    let listed = admin
        .call("commands.list", json!({"agentId": "main"}))
        .await?;
    let listed = listed["commands"].as_array().expect("commands");
    assert!(listed.len() > 40, "{listed:?}");
    let mut offered = BTreeSet::new();
    for command in listed {
        if command["source"] == "skill" {
            continue;
        }
        let aliases = command["textAliases"].as_array().into_iter().flatten();
        for alias in aliases.filter_map(Value::as_str) {
            let name = alias.trim_start_matches('/').to_lowercase();
            if !COMMANDS.iter().any(|row| row.names.contains(&&*name)) {
                wrong.push(format!("command /{name} has no row"));
            }
            offered.insert(name);
        }
    }
    assert!(offered.contains("status"), "{listed:?}");
    assert!(
        wrong.is_empty(),
        "the table is not that of OpenClaw {version}:\n{}",
        wrong.join("\n")
    );
    Ok(())
}
