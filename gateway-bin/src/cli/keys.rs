//! `gateway keys …`: people's personal access tokens, and the master keys under which their own provider keys are sealed, on
//! the gateway's own host.

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::operate::{OperateError, Reach, Table, done, print, read, taken};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

/// Looks after personal access tokens and master keys, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The personal access tokens that somebody has. The tokens themselves nobody is told again.
    #[command(after_help = "Example: gateway keys list alice")]
    List(User),
    /// End a personal access token, as when it has leaked: it opens nothing any more, and sockets that it has opened close.
    #[command(after_help = "Example: gateway keys revoke alice KEY")]
    Revoke {
        #[command(flatten)]
        user: User,
        /// The token's id.
        #[arg(value_name = "KEY", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        id: String,
    },
    /// Seal people's own provider keys anew, under the first master key.
    ///
    /// Put the new master key below the old ones at every gateway, and send them SIGHUP; move it to the top, and send
    /// SIGHUP again; then rotate. After that the old ones are not needed any more.
    #[command(after_help = "Example: kill -HUP $(pidof gateway) && gateway keys rotate")]
    Rotate,
}

#[derive(Debug, Args)]
struct User {
    /// The user's id.
    #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    id: String,
    name: String,
    scopes: Vec<String>,
    created_at: String,
    expires_at: String,
    last_used_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Rotated {
    resealed: u64,
    lost: u64,
}

// === impl Keys ===

impl Keys {
    /// Does it, and prints the answer.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        match self.what {
            What::List(User { user }) => {
                let path = keys_of(&user);
                let answer = client.request(Method::GET, &path, None).await?;
                print(self.reach.json, answer, shown)
            }
            What::Revoke {
                user: User { user },
                id,
            } => {
                let path = format!("{}/{}", keys_of(&user), percent_encoded(&id));
                client.request(Method::DELETE, &path, None).await?;
                done(self.reach.json, "revoked\n")
            }
            What::Rotate => {
                let path = "/api/admin/provider-keys/reseal";
                let answer = client.request(Method::POST, path, None).await?;
                print(self.reach.json, answer, |answer| {
                    read(answer).map(|rotated: Rotated| rotated.shown())
                })
            }
        }
    }
}

// === impl Rotated ===

impl Rotated {
    fn shown(&self) -> String {
        let Self { resealed, lost } = self;
        let mut shown = format!("{resealed} keys sealed anew\n");
        if *lost > 0 {
            shown += &format!(
                "{lost} cannot be opened, and are named in the log: their users have to put them again\n"
            );
        }
        shown
    }
}

fn keys_of(user: &str) -> String {
    format!("/api/admin/users/{}/keys", percent_encoded(user))
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let keys: Vec<Key> = read(taken(answer, "keys"))?;
    if keys.is_empty() {
        return Ok("no keys\n".to_owned());
    }
    let mut table = Table::new(["KEY", "NAME", "SCOPES", "SINCE", "LAST USED", "UNTIL"]);
    for key in keys {
        table.row([
            key.id,
            key.name,
            key.scopes.join(" "),
            key.created_at,
            key.last_used_at.unwrap_or_else(|| "never".to_owned()),
            key.expires_at,
        ]);
    }
    Ok(table.to_string())
}
