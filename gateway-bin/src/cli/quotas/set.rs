use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::answer::Quota;
use super::change::Change;
use super::{OperateError, User, quota_of, read};
use crate::operator::{ClientError, OperatorClient};

/// How often somebody else may change the same quota at the same moment.
const ATTEMPTS: usize = 5;

/// The arguments of `gateway quotas set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    user: User,
    /// What is to be.
    #[arg(value_name = "CHANGE", required = true)]
    changes: Vec<Change>,
}

// === impl Set ===

impl Set {
    /// Changes what there is, which is read again if somebody else has changed it meanwhile, and answers what there is
    /// then.
    pub(super) async fn run(self, client: &OperatorClient) -> Result<Value, OperateError> {
        if let Some(what) = named_twice(&self.changes) {
            return Err(OperateError::Argument(format!(
                "{what} is named twice; name each limit, plan and time-zone once"
            )));
        }
        let path = quota_of(&self.user.user);
        let mut attempt = 1;
        loop {
            let quota = client.request(Method::GET, &path, None).await?;
            let quota: Quota = read(quota)?;
            let body = json!(quota.changed(&self.changes));
            match client.request(Method::PUT, &path, Some(&body)).await {
                Err(ClientError::Refused { code, .. })
                    if code == "changed" && attempt < ATTEMPTS => {}
                answer => return Ok(answer?),
            }
            attempt += 1;
        }
    }
}

fn named_twice(changes: &[Change]) -> Option<String> {
    let (last, earlier) = changes.split_last()?;
    let what = last.what();
    match earlier.iter().any(|other| other.what() == what) {
        true => Some(what),
        false => named_twice(earlier),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_twice_is_found() {
        let changes = |changes: &[&str]| {
            let changes = changes.iter().map(|change| change.parse().unwrap());
            named_twice(&changes.collect::<Vec<_>>())
        };
        assert_eq!(changes(&["tokens/day=1", "tokens/hour=1", "plan=a"]), None);
        for (what, twice) in [
            ("tokens/day", ["tokens/day=1", "plan=a", "tokens/day=plan"]),
            ("plan", ["plan=a", "plan=b", "time-zone=UTC"]),
        ] {
            assert_eq!(changes(&twice).as_deref(), Some(what));
        }
    }
}
