//! `gateway log …`: what a gateway logs, on its own host.

use clap::Args;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::operate::{OperateError, Reach, print, read};
use crate::operator::{OperatorClient, percent_encoded};

/// Shows and changes what a gateway logs that runs on this host, until it reads its configuration again.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// What it logs from now on: error, warn, info, debug, trace or off, and after it, behind commas, module=level.
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Say by what this user is known in the log.
    #[arg(long, value_name = "USER", conflicts_with = "filter")]
    user: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Deserialize)]
struct Answer {
    filter: String,
    before: Option<String>,
    user: Option<String>,
}

// === impl Log ===

impl Log {
    /// Does it, and prints what is in force.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        let answer = match (&self.filter, &self.user) {
            (Some(filter), _) => {
                let wanted = json!({ "filter": filter });
                let path = "/api/admin/log";
                client.request(Method::PUT, path, Some(&wanted)).await?
            }
            (None, Some(user)) => {
                let path = format!("/api/admin/log?user={}", percent_encoded(user));
                client.request(Method::GET, &path, None).await?
            }
            (None, None) => client.request(Method::GET, "/api/admin/log", None).await?,
        };
        print(self.reach.json, answer, |answer| {
            let Answer {
                filter,
                before,
                user,
            } = read(answer)?;
            Ok(match (before, user) {
                (Some(before), _) => format!("{filter} (before: {before})\n"),
                (None, Some(user)) => format!("{user}\n"),
                (None, None) => format!("{filter}\n"),
            })
        })
    }
}
