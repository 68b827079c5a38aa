//! `gateway quotas …`: what administrators do about people's quotas, on the gateway's own host.

mod answer;
mod change;
mod grant;
mod limit_name;
mod set;
mod show;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use self::answer::{Explanation, Listed, Plans, Shown};
use self::grant::Grant;
use self::set::Set;
use super::operate::{OperateError, Reach, all_pages, print, read, taken};
use crate::operator::{OperatorClient, percent_encoded};

/// Shows and changes people's quotas, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Quotas {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Everybody who has something beside their plan.
    #[command(after_help = "Example: gateway quotas list --config gateway.toml")]
    List,
    /// The plans that the configuration has, with their limits.
    #[command(after_help = "Example: gateway quotas plans")]
    Plans,
    /// What somebody has beside their plan, and how they stand.
    #[command(after_help = "Example: gateway quotas show alice")]
    Show(User),
    /// Every limit of somebody, and whether a run of theirs would begin now, and if not, why.
    #[command(after_help = "Example: gateway quotas explain alice")]
    Explain(User),
    /// Change somebody's limits, plan or time zone; what is not named stays.
    #[command(
        after_help = "A limit is tokens, cost or calls by minute, hour, day or month. It becomes an amount (cost in US \
                      dollars), unlimited, or plan: as in the plan. plan=default and time-zone=plan take away their own.\n\n\
                      Example: gateway quotas set alice tokens/day=2000000 cost/month=100.00 calls/hour=unlimited plan=pro \
                      time-zone=Europe/Berlin"
    )]
    Set(Set),
    /// Give somebody more of a limit, for a time: in each of its periods until then.
    #[command(
        after_help = "Examples:\n  gateway quotas grant alice tokens/day=50000 --for 7d\n  \
                      gateway quotas grant alice cost/month=10.00 --until 2027-01-31T00:00:00Z"
    )]
    Grant(Grant),
    /// Put somebody back to their plan: own limits, grants, plan and time zone are taken away.
    #[command(
        after_help = "Examples:\n  gateway quotas reset alice\n  gateway quotas reset alice --used"
    )]
    Reset(Reset),
}

#[derive(Debug, Args)]
struct User {
    /// The user's id.
    #[arg(value_name = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
}

#[derive(Debug, Args)]
struct Reset {
    #[command(flatten)]
    user: User,
    /// Leave all that as it is, and give them once more what they have used, until it would have been given anew.
    #[arg(long)]
    used: bool,
}

// === impl Quotas ===

impl Quotas {
    /// Does it, and prints how it is then.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        let json = self.reach.json;
        match self.what {
            What::List => {
                let all = all_pages(&client, "/api/admin/quotas", "quotas").await?;
                print(json, json!({ "quotas": all }), |answer| {
                    let all = taken(answer, "quotas");
                    read(all).map(|all: Vec<Listed>| show::listed(&all))
                })
            }
            What::Plans => {
                let answer = client
                    .request(Method::GET, "/api/admin/plans", None)
                    .await?;
                print(json, answer, |answer| {
                    read(answer).map(|plans: Plans| show::plans(&plans))
                })
            }
            What::Show(User { user }) => {
                let answer = client.request(Method::GET, &quota_of(&user), None).await?;
                print_quota(json, answer)
            }
            What::Explain(User { user }) => {
                let path = format!("{}/explain", quota_of(&user));
                let answer = client.request(Method::GET, &path, None).await?;
                print(json, answer, |answer| {
                    read(answer).map(|explanation: Explanation| show::explained(&explanation))
                })
            }
            What::Set(set) => print_quota(json, set.run(&client).await?),
            What::Grant(grant) => print_quota(json, grant.run(&client).await?),
            What::Reset(Reset {
                user: User { user },
                used,
            }) => {
                let path = format!("{}/reset", quota_of(&user));
                let body = json!({ "used": used });
                let answer = client.request(Method::POST, &path, Some(&body)).await?;
                print_quota(json, answer)
            }
        }
    }
}

fn quota_of(user: &str) -> String {
    format!("/api/admin/users/{}/quota", percent_encoded(user))
}

fn print_quota(json: bool, answer: Value) -> Result<(), OperateError> {
    print(json, answer, |answer| {
        read(answer).map(|quota: Shown| show::shown(&quota))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    fn refusal(arguments: &[&str]) -> Option<String> {
        let arguments = ["gateway", "quotas"].iter().chain(arguments);
        let error = Cli::try_parse_from(arguments).err()?;
        assert_eq!(error.exit_code(), 2);
        Some(error.to_string())
    }

    #[test]
    fn arguments_are_taken_in_any_order() {
        for arguments in [
            &["list"][..],
            &["--json", "list", "--config", "other.toml"],
            &["show", "alice", "--socket", "/run/gateway.sock", "--json"],
            &["set", "alice", "tokens/day=5", "--json", "plan=pro"],
            &["grant", "alice", "tokens/day=5", "--for", "7d"],
            &[
                "grant",
                "alice",
                "--until",
                "9000-01-31T00:00:00Z",
                "cost/day=5",
            ],
            &["reset", "--used", "alice"],
            &["explain", "--", "-alice"],
        ] {
            assert_eq!(refusal(arguments), None);
        }
    }

    #[test]
    fn a_wrong_argument_is_named_with_the_form_it_must_have() {
        for (arguments, named, form) in [
            (&["show", ""][..], "<USER>", "a value is required"),
            (&["show"], "<USER>", "required"),
            (&["set", "alice"], "<CHANGE>", "required"),
            (
                &["set", "alice", "tokens/day"],
                "<CHANGE>",
                "tokens/day=2000000",
            ),
            (
                &["set", "alice", "tokens/day=-1"],
                "<CHANGE>",
                "a whole number from 0",
            ),
            (
                &["set", "alice", "plan=a", "cost/day=NaN"],
                "<CHANGE>",
                "like 100.00",
            ),
            (
                &["grant", "alice", "5", "--for", "7d"],
                "<LIMIT=AMOUNT>",
                "tokens/day=50000",
            ),
            (&["grant", "alice", "calls/day=5"], "--for", "required"),
            (
                &["grant", "alice", "calls/day=5", "--for", "soon"],
                "--for",
                "\"7d\"",
            ),
            (
                &["grant", "alice", "calls/day=5", "--until", "soon"],
                "--until",
                "2027-01-31T00:00:00Z",
            ),
            (
                &[
                    "grant",
                    "alice",
                    "calls/day=5",
                    "--until",
                    "2020-01-31T00:00:00Z",
                ],
                "--until",
                "still to come",
            ),
            (
                &[
                    "grant",
                    "alice",
                    "calls/day=5",
                    "--for",
                    "7d",
                    "--until",
                    "9000-01-31T00:00:00Z",
                ],
                "--for",
                "cannot be used with",
            ),
        ] {
            let said = refusal(arguments).unwrap();
            assert!(
                said.contains(named) && said.contains(form),
                "{arguments:?}: {said}"
            );
        }
    }
}
