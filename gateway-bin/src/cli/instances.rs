//! `gateway instances …`: the OpenClaw gateways behind this one, on the gateway's own host.

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::operate::{OperateError, Reach, Table, print, read};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

/// Shows the instances of a gateway that runs on this host, and says whether people are sent to them.
#[derive(Debug, Args)]
pub(super) struct Instances {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All of them, with how many people have a place there.
    #[command(after_help = "Example: gateway instances list")]
    List,
    /// Send nobody new to an instance. Who has a place there stays, unless `routing.affinity` is `preferred`: then they
    /// are moved when they come the next time.
    #[command(after_help = "Example: gateway instances drain gateway-1")]
    Drain(Name),
    /// Send people to an instance again.
    #[command(after_help = "Example: gateway instances resume gateway-1")]
    Resume(Name),
    /// Take somebody's place on an instance away: they get one where others get theirs who come now, with their files and
    /// without the conversations that they had there.
    #[command(after_help = "Example: gateway instances unassign alice gateway-1")]
    Unassign {
        /// The user's id.
        #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        user: String,
        #[command(flatten)]
        name: Name,
    },
}

#[derive(Debug, Args)]
struct Name {
    /// The instance's name.
    #[arg(value_name = "INSTANCE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    name: String,
    configured: bool,
    capacity: u32,
    assigned: u32,
    ready: bool,
    drained: bool,
    to_be_changed: Vec<String>,
}

// === impl Instances ===

impl Instances {
    /// Does it, and prints what has become of it.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        let (path, method, done) = match &self.what {
            What::List => {
                let path = "/api/admin/instances";
                let answer = client.request(Method::GET, path, None).await?;
                return print(self.reach.json, answer, shown);
            }
            What::Drain(name) => (name.path("drain"), Method::POST, "drained\n"),
            What::Resume(name) => (name.path("resume"), Method::POST, "resumed\n"),
            What::Unassign { user, name } => {
                let (user, name) = (percent_encoded(user), percent_encoded(&name.name));
                let path = format!("/api/admin/users/{user}/assignment?instance={name}");
                (path, Method::DELETE, "unassigned\n")
            }
        };
        client.request(method, &path, None).await?;
        print(self.reach.json, Value::Null, |_| Ok(done.to_owned()))
    }
}

// === impl Name ===

impl Name {
    fn path(&self, act: &str) -> String {
        format!("/api/admin/instances/{}/{act}", percent_encoded(&self.name))
    }
}

fn shown(mut answer: Value) -> Result<String, ClientError> {
    let instances = answer.get_mut("instances").map(Value::take);
    let instances: Vec<Instance> = read(instances.unwrap_or_default())?;
    let mut table = Table::new(["INSTANCE", "PEOPLE", "CAPACITY", "STATE"]);
    for instance in instances {
        let state = match &instance {
            Instance {
                configured: false, ..
            } => "not configured".to_owned(),
            instance if !instance.to_be_changed.is_empty() => {
                format!("must be changed: {}", instance.to_be_changed.join("; "))
            }
            Instance { ready: false, .. } => "away".to_owned(),
            Instance { drained: true, .. } => "drained".to_owned(),
            _ => "ready".to_owned(),
        };
        let (assigned, capacity) = (instance.assigned.to_string(), instance.capacity.to_string());
        table.row([instance.name, assigned, capacity, state]);
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use serde_json::json;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_an_example() {
        let mut gateway = Cli::command();
        let instances = gateway.find_subcommand_mut("instances").unwrap();
        for command in instances.get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let help = command.render_help().to_string();
            let example = format!("gateway instances {name}");
            assert!(help.contains(&example), "{help}");
        }
    }

    #[test]
    fn the_state_of_each_is_said_in_a_word() {
        let instance = |name: &str, configured, ready, drained, problems: &[&str]| {
            json!({"name": name, "configured": configured, "capacity": 150, "assigned": 3, "ready": ready,
                "drained": drained, "toBeChanged": problems})
        };
        let answer = json!({ "instances": [
            instance("a", true, true, false, &[]),
            instance("b", true, true, true, &[]),
            instance("c", true, false, false, &[]),
            instance("d", true, false, false, &["x must be y"]),
            instance("e", false, false, false, &[]),
        ]});
        let shown = shown(answer).unwrap();
        let states = [
            "ready",
            "drained",
            "away",
            "must be changed: x must be y",
            "not configured",
        ];
        let lines: Vec<_> = shown.lines().skip(1).collect();
        assert_eq!(lines.len(), states.len());
        for (line, state) in lines.iter().zip(states) {
            assert!(line.ends_with(state), "{shown}");
        }
    }
}
