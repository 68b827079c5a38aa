//! `gateway instances …`: the OpenClaw gateways behind this one, on the gateway's own host.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::operate::{self, OperateError, Reach, Table, print, read};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

/// Shows, adds and removes the instances of a gateway that runs on this host, and says whether people are sent to them.
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
    /// Use one more instance, beside those of the configuration file, at this gateway and at all that share its store. Its
    /// password is sealed under the first master key (`workspace.master_key_file`), and shown to nobody again.
    #[command(
        after_help = "Example: gateway instances add gateway-4 http://10.0.0.4:18789 --password-file /run/secrets/gateway-4"
    )]
    Add(New),
    /// Do not use an instance any more that was added. Drain it and unassign its people first; with `--force` they keep their
    /// places, and are told to wait, in case it is added again.
    #[command(after_help = "Example: gateway instances remove gateway-4")]
    Remove {
        #[command(flatten)]
        name: Name,
        /// Even if people have a place there.
        #[arg(long)]
        force: bool,
    },
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
struct New {
    #[command(flatten)]
    name: Name,
    /// `http://` URL of the OpenClaw gateway.
    #[arg(value_name = "URL")]
    url: String,
    /// File whose first line is the instance's `gateway.auth.password`.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// The instance's `gateway.auth.trustedProxy.userHeader`; default: as in the configuration file.
    #[arg(long, value_name = "HEADER")]
    user_header: Option<String>,
    /// How many people it takes; default: as in the configuration file.
    #[arg(long, value_name = "PEOPLE")]
    capacity: Option<u32>,
    /// Where it sees the workspace root, if elsewhere.
    #[arg(long, value_name = "DIRECTORY")]
    workspace_root: Option<String>,
    /// That it calls its model providers itself.
    #[arg(long)]
    observed: bool,
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
    user: Option<String>,
    capacity: u32,
    assigned: u32,
    ready: bool,
    drained: bool,
    to_be_changed: Vec<String>,
    process: Option<Process>,
}

/// Of a cell that the gateway has started.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    status: String,
    last_failure: Option<String>,
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
            What::Add(new) => {
                let said = new.said()?;
                let path = "/api/admin/instances";
                client.request(Method::POST, path, Some(&said)).await?;
                return operate::done(self.reach.json, "added\n");
            }
            What::Remove { name, force } => {
                let path = format!(
                    "/api/admin/instances/{}?force={force}",
                    percent_encoded(&name.name)
                );
                (path, Method::DELETE, "removed\n")
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
        operate::done(self.reach.json, done)
    }
}

// === impl New ===

impl New {
    /// What is said of it, as below `[[instance]]`.
    fn said(&self) -> Result<Value, OperateError> {
        let file = &self.password_file;
        let wrong = |problem: String| {
            OperateError::Argument(format!("--password-file {}: {problem}", file.display()))
        };
        let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let password = text.lines().next().map(str::trim_end).unwrap_or_default();
        if password.is_empty() {
            return Err(wrong("its first line is empty".to_owned()));
        }
        let mut auth = Map::new();
        auth.insert("kind".to_owned(), json!("trusted-proxy"));
        auth.insert("password".to_owned(), json!(password));
        let header = self.user_header.as_ref();
        auth.extend(header.map(|header| ("user_header".to_owned(), json!(header))));
        let mut said = Map::new();
        said.insert("name".to_owned(), json!(self.name.name));
        said.insert("url".to_owned(), json!(self.url));
        said.insert("auth".to_owned(), auth.into());
        let optional = [
            ("capacity", self.capacity.map(Value::from)),
            (
                "workspace_root",
                self.workspace_root.clone().map(Value::from),
            ),
            ("metering", self.observed.then(|| "observed".into())),
        ];
        for (key, value) in optional {
            said.extend(value.map(|value| (key.to_owned(), value)));
        }
        let said = Value::from(said);
        Ok(said)
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
    let mut table = Table::new(["INSTANCE", "FOR", "PEOPLE", "CAPACITY", "STATE"]);
    for instance in instances {
        let state = match &instance {
            Instance {
                configured: false, ..
            } => "not configured".to_owned(),
            instance if !instance.to_be_changed.is_empty() => {
                format!("must be changed: {}", instance.to_be_changed.join("; "))
            }
            Instance {
                process: Some(process),
                ready: false,
                ..
            } => match &process.last_failure {
                Some(failure) => format!("{}: {failure}", process.status),
                None => process.status.clone(),
            },
            Instance { ready: false, .. } => "away".to_owned(),
            Instance { drained: true, .. } => "drained".to_owned(),
            _ => "ready".to_owned(),
        };
        let (assigned, capacity) = (instance.assigned.to_string(), instance.capacity.to_string());
        let of = instance.user.unwrap_or_else(|| "everybody".to_owned());
        table.row([instance.name, of, assigned, capacity, state]);
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_each_is_said_in_a_word() {
        let instance = |name: &str, configured, ready, drained, problems: &[&str]| {
            json!({"name": name, "configured": configured, "capacity": 150, "assigned": 3, "ready": ready,
                "drained": drained, "toBeChanged": problems})
        };
        let mut of_alice = instance("b", true, true, true, &[]);
        of_alice["user"] = "alice".into();
        let answer = json!({ "instances": [
            instance("a", true, true, false, &[]),
            of_alice,
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
        assert!(
            lines[0].contains("everybody") && lines[1].contains("alice"),
            "{shown}"
        );
        for (line, state) in lines.iter().zip(states) {
            assert!(line.ends_with(state), "{shown}");
        }
    }
}
