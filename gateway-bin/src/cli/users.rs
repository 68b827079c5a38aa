//! `gateway users …`: the people, on the gateway's own host.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::operate::{OperateError, Reach, Table, all_pages, done, download, print, read, taken};
use super::snapshots;
use crate::operator::{ClientError, OperatorClient, percent_encoded};

/// Lists, shuts out, links, counts, exports and deletes people, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Users {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Everybody who has signed in.
    #[command(after_help = "Example: gateway users list")]
    List,
    /// Shut somebody out at once: their sessions, sockets and keys end, and they cannot sign in until they are enabled again.
    /// What they have stays.
    #[command(after_help = "Example: gateway users disable alice")]
    Disable(User),
    /// Let somebody sign in again who was disabled.
    #[command(after_help = "Example: gateway users enable alice")]
    Enable(User),
    /// Have somebody of another issuer be this user from now on. They have to sign in anew, and what they had as a user of
    /// their own stays with that one.
    #[command(after_help = "Example: gateway users link alice github 583231")]
    Link(Link),
    /// Write everything of somebody into a tar archive: their files, what is kept about them, and their usage records. It
    /// has no keys.
    ///
    /// Links are in it as links. What was left out, as files with a second name elsewhere, is told in `export.json`.
    #[command(after_help = "Example: gateway users export alice --output alice.tar")]
    Export(Export),
    /// Take a snapshot of somebody now: how many files and bytes, keys, what of their limits is used, where their agent is.
    /// No contents, no names of files, no keys.
    #[command(after_help = "Example: gateway users snapshot alice")]
    Snapshot(User),
    /// The snapshots of somebody that are kept, the latest first.
    #[command(after_help = "Example: gateway users snapshots alice --json")]
    Snapshots(User),
    /// Sign somebody out everywhere and remove what they had: directory, agent, conversations, keys, and what their issuer
    /// says of them.
    ///
    /// What stays is their id in the books: usage records, alerts, and limits of their own. Their place on the instance is
    /// given to nobody else. Should it fail on the way, they cannot sign in until the same command has come to the end.
    /// Then whoever comes with that id, be it by an access token that has not expired, is new, unless the user is disabled. OpenClaw keeps files of ended agents in
    /// its own state directory; nobody reaches them through the gateway.
    #[command(after_help = "Example: gateway users delete alice")]
    Delete(User),
}

#[derive(Debug, Args)]
struct User {
    /// The user's id.
    #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
}

#[derive(Debug, Args)]
struct Link {
    #[command(flatten)]
    user: User,
    /// The alias of the other issuer, as in the configuration.
    #[arg(value_name = "ISSUER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    issuer: String,
    /// Who they are there: the subject of their tokens.
    #[arg(value_name = "SUBJECT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    subject: String,
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    whose: User,
    /// The archive, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    user: String,
    provider: String,
    email: Option<String>,
    agent: Option<String>,
    disabled: bool,
    being_deleted: bool,
    last_login_at: String,
}

/// How long it may take; an instance under load takes its time, and a directory may be large.
const TIME: Duration = Duration::from_secs(600);

// === impl Users ===

impl Users {
    /// Does it, and prints the answer.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?).within(TIME);
        match self.what {
            What::List => {
                let users = all_pages(&client, "/api/admin/users", "users").await?;
                print(self.reach.json, json!({ "users": users }), shown)
            }
            What::Disable(User { user }) => {
                let path = format!("{}/disable", path_of(&user));
                client.request(Method::POST, &path, None).await?;
                done(self.reach.json, "disabled\n")
            }
            What::Enable(User { user }) => {
                let path = format!("{}/enable", path_of(&user));
                client.request(Method::POST, &path, None).await?;
                done(self.reach.json, "enabled\n")
            }
            What::Link(Link {
                user: User { user },
                issuer,
                subject,
            }) => {
                let path = format!("{}/identities", path_of(&user));
                let body = json!({ "provider": issuer, "subject": subject });
                client.request(Method::POST, &path, Some(&body)).await?;
                done(self.reach.json, "linked\n")
            }
            What::Export(Export { whose, output }) => {
                let path = format!("{}/export", path_of(&whose.user));
                let length = download(&client, &path, &output).await?;
                print(self.reach.json, json!({ "bytes": length }), |_| {
                    Ok(format!("{length} bytes in {}\n", output.display()))
                })
            }
            What::Snapshot(User { user }) => {
                let taken = snapshots::take(&client, &user).await?;
                print(self.reach.json, taken, snapshots::shown)
            }
            What::Snapshots(User { user }) => {
                let kept = snapshots::list(&client, &user).await?;
                print(
                    self.reach.json,
                    json!({ "snapshots": kept }),
                    snapshots::shown,
                )
            }
            What::Delete(User { user }) => {
                let path = path_of(&user);
                client.request(Method::DELETE, &path, None).await?;
                done(self.reach.json, "deleted\n")
            }
        }
    }
}

fn path_of(user: &str) -> String {
    format!("/api/admin/users/{}", percent_encoded(user))
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let users: Vec<Listed> = read(taken(answer, "users"))?;
    let mut table = Table::new(["USER", "ISSUER", "E-MAIL", "AGENT", "LAST SIGN-IN", ""]);
    for user in users {
        let state = match (user.being_deleted, user.disabled) {
            (true, _) => "being deleted",
            (false, true) => "disabled",
            (false, false) => "",
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            user.user,
            user.provider,
            or_none(user.email),
            or_none(user.agent),
            user.last_login_at,
            state.to_owned(),
        ]);
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_listed_with_their_state() {
        let user = |user: &str, disabled, being_deleted| {
            json!({"user": user, "provider": "corp", "email": null, "name": null, "agent": "slot-001",
                "disabled": disabled, "beingDeleted": being_deleted, "lastLoginAt": "2026-11-01T00:00:00Z"})
        };
        let users = [
            user("alice", false, false),
            user("bob", true, false),
            user("carol", true, true),
        ];
        let shown = shown(json!({ "users": users })).unwrap();
        let states: Vec<_> = shown.lines().map(|line| line.split("00Z").nth(1)).collect();
        assert_eq!(
            states,
            [None, Some(""), Some("  disabled"), Some("  being deleted")]
        );
    }
}
