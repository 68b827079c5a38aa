//! `gateway sessions …`: where people are signed in, on the gateway's own host.

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::operate::{OperateError, Reach, Table, done, print, read, taken};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

/// Shows and ends people's sign-ins, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Sessions {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Where somebody is signed in.
    #[command(after_help = "Example: gateway sessions list alice")]
    List(User),
    /// Sign somebody out, in one session or everywhere; sockets that were opened with it close. Everywhere is their personal
    /// access tokens, too. They may sign in again: see `gateway users disable`.
    #[command(
        after_help = "Examples:\n  gateway sessions end alice --all\n  gateway sessions end alice SESSION"
    )]
    End(End),
}

#[derive(Debug, Args)]
struct User {
    /// The user's id.
    #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
}

#[derive(Debug, Args)]
struct End {
    /// The user's id.
    #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
    /// The session's id.
    #[arg(
        value_name = "SESSION",
        required_unless_present = "all",
        conflicts_with = "all",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    session: Option<String>,
    /// Everything that they are signed in with.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    id: String,
    provider: String,
    client: Option<String>,
    created_at: String,
    last_seen_at: String,
    expires_at: String,
}

// === impl Sessions ===

impl Sessions {
    /// Does it, and prints the answer.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        match self.what {
            What::List(User { user }) => {
                let path = sessions_of(&user);
                let answer = client.request(Method::GET, &path, None).await?;
                print(self.reach.json, answer, shown)
            }
            What::End(End { user, session, .. }) => {
                let mut path = sessions_of(&user);
                if let Some(session) = session {
                    path = format!("{path}/{}", percent_encoded(&session));
                }
                client.request(Method::DELETE, &path, None).await?;
                done(self.reach.json, "ended\n")
            }
        }
    }
}

fn sessions_of(user: &str) -> String {
    format!("/api/admin/users/{}/sessions", percent_encoded(user))
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let sessions: Vec<Session> = read(taken(answer, "sessions"))?;
    if sessions.is_empty() {
        return Ok("signed in nowhere\n".to_owned());
    }
    let names = ["SESSION", "ISSUER", "SINCE", "LAST SEEN", "UNTIL", "CLIENT"];
    let mut table = Table::new(names);
    for session in sessions {
        table.row([
            session.id,
            session.provider,
            session.created_at,
            session.last_seen_at,
            session.expires_at,
            session.client.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    #[test]
    fn what_is_ended_is_said() {
        for (arguments, fits) in [
            (&["alice", "--all"][..], true),
            (&["alice", "0123"], true),
            (&["alice"], false),
            (&["alice", "0123", "--all"], false),
            (&["", "--all"], false),
            (&["--all"], false),
        ] {
            let arguments = ["gateway", "sessions", "end"].iter().chain(arguments);
            assert_eq!(Cli::try_parse_from(arguments).is_ok(), fits);
        }
    }
}
