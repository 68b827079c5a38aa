//! `gateway virtual-keys …`: the keys by which people's agents call models, on the gateway's own host.

use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::operate::{OperateError, Reach, Table, all_pages, done, print, read, taken};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

/// Shows, rotates and revokes the keys by which people's agents call models, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct VirtualKeys {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The newest key of everybody. The keys themselves are known to the instance only.
    #[command(after_help = "Example: gateway virtual-keys list")]
    List,
    /// Give somebody's agent, or all agents, another key; the one before ends when the instance has the new one.
    #[command(
        after_help = "Examples:\n  gateway virtual-keys rotate alice\n  gateway virtual-keys rotate --all"
    )]
    Rotate(Whose),
    /// End somebody's key at once, as when it has leaked: their agent calls no model until they come again, and gets
    /// another key then. OpenClaw waits a minute after a key was refused.
    #[command(after_help = "Example: gateway virtual-keys revoke alice")]
    Revoke(User),
}

#[derive(Debug, Args)]
struct User {
    /// The user's id.
    #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// The user's id.
    #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Everybody's.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    user: String,
    key_id: String,
    instance: Option<String>,
    agent: Option<String>,
    created_at: Option<String>,
}

/// How long an instance may take to take a key; it takes many of a crowd together, but only so often.
const TIME: Duration = Duration::from_secs(180);

const KEYS: &str = "/api/admin/virtual-keys";

/// Agents of one crowd.
const CROWD: usize = 50;

// === impl VirtualKeys ===

impl VirtualKeys {
    /// Does it, and prints what has become of the keys.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?).within(TIME);
        let keys = match self.what {
            What::List => all_pages(&client, KEYS, "keys").await?,
            What::Rotate(Whose {
                user: Some(user), ..
            }) => vec![rotate(&client, &user).await?],
            What::Rotate(Whose { user: None, .. }) => {
                let users = all_pages(&client, KEYS, "keys").await?;
                let users = users
                    .into_iter()
                    .filter_map(|key| Some(key.get("user")?.as_str()?.to_owned()));
                let client = &client;
                let rotating = stream::iter(users)
                    .map(|user| async move { rotate(client, &user).await })
                    .buffer_unordered(CROWD);
                rotating.try_collect().await?
            }
            What::Revoke(User { user }) => {
                client.request(Method::DELETE, &key_of(&user), None).await?;
                return done(self.reach.json, "revoked\n");
            }
        };
        print(self.reach.json, json!({ "keys": keys }), shown)
    }
}

async fn rotate(client: &OperatorClient, user: &str) -> Result<Value, ClientError> {
    let path = format!("{}/rotate", key_of(user));
    client.request(Method::POST, &path, None).await
}

fn key_of(user: &str) -> String {
    format!("/api/admin/users/{}/virtual-key", percent_encoded(user))
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let keys: Vec<Key> = read(taken(answer, "keys"))?;
    let mut table = Table::new(["USER", "INSTANCE", "AGENT", "KEY", "SINCE"]);
    for key in keys {
        let since = key.created_at.unwrap_or_else(|| "now".to_owned());
        let of = |name: Option<String>| name.unwrap_or_else(|| "-".to_owned());
        table.row([key.user, of(key.instance), of(key.agent), key.key_id, since]);
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    #[test]
    fn whose_key_is_rotated_is_said() {
        for (arguments, fits) in [
            (&["rotate", "alice"][..], true),
            (&["rotate", "--all"], true),
            (&["rotate"], false),
            (&["rotate", "alice", "--all"], false),
            (&["revoke"], false),
            (&["revoke", ""], false),
        ] {
            let arguments = ["gateway", "virtual-keys"].iter().chain(arguments);
            assert_eq!(Cli::try_parse_from(arguments).is_ok(), fits);
        }
    }
}
