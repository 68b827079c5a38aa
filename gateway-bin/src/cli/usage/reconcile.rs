use std::process::ExitCode;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::api::ADDS_UP;
use crate::cli::operate::{OperateError, Table, print, read};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

pub(super) const HELP: &str = "\
Examples:
  gateway usage reconcile
  gateway usage reconcile --from 2026-11-01 --to 2026-11-30 alice

Only tokens are compared: the instance has prices of its own. The two count different things where
  - a call was aborted or failed: egress has what was used of it, the instance has nothing;
  - a call leaves no message in a session (compaction, titles): egress has it, the instance has not;
  - several gateways run without a database: each has a ledger of its own, and is asked for that;
  - something was recorded in the last seconds, which the database has not got yet;
  - the instance was not always metered, or a day begins in the middle of a call.";

/// How often a page is asked for that the instance has not added up.
const ATTEMPTS: usize = 5;

#[derive(Debug, Args)]
pub(super) struct Reconcile {
    /// The first day, in UTC; default: 29 days before today.
    #[arg(long, value_name = "DAY", value_parser = NonEmptyStringValueParser::new())]
    from: Option<String>,
    /// The last day, in UTC; default: today.
    #[arg(long, value_name = "DAY", value_parser = NonEmptyStringValueParser::new())]
    to: Option<String>,
    /// The user's id; default: everybody.
    #[arg(value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    differing: u64,
    users: Vec<User>,
}

#[derive(Debug, Deserialize)]
struct User {
    user: String,
    agent: Option<String>,
    ledger: Used,
    instance: Used,
    sessions: Vec<Session>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_key: String,
    ledger: Used,
    instance: Used,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Used {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    cache_write_tokens: u64,
}

// === impl Reconcile ===

impl Reconcile {
    pub(super) async fn run(
        self,
        client: &OperatorClient,
        json: bool,
    ) -> Result<ExitCode, OperateError> {
        let answer = self.ask(client).await?;
        let differing = answer.get("differing").and_then(Value::as_u64);
        print(json, answer, shown)?;
        match differing {
            Some(0) => Ok(ExitCode::SUCCESS),
            _ => Ok(ExitCode::FAILURE),
        }
    }

    /// All pages, as one.
    async fn ask(&self, client: &OperatorClient) -> Result<Value, ClientError> {
        let path = self.path();
        let mut answer = patiently(client, &path).await?;
        while let Some(next) = answer.get("next").and_then(Value::as_str) {
            let path = format!("{path}&after={}", percent_encoded(next));
            let mut page = patiently(client, &path).await?;
            append(&mut answer, &mut page).ok_or(ClientError::Answer)?;
        }
        match answer.get("differing") {
            Some(_) => Ok(answer),
            None => Err(ClientError::Answer),
        }
    }

    fn path(&self) -> String {
        let pairs = [("from", &self.from), ("to", &self.to), ("user", &self.user)];
        let pairs = pairs.into_iter().filter_map(|(name, value)| {
            let value = percent_encoded(value.as_deref()?);
            Some(format!("{name}={value}"))
        });
        let query: Vec<String> = pairs.collect();
        format!("/api/admin/usage/reconcile?{}", query.join("&"))
    }
}

/// Asks again while the instance adds up, which it does meanwhile.
async fn patiently(client: &OperatorClient, path: &str) -> Result<Value, ClientError> {
    for _ in 1..ATTEMPTS {
        match client.request(Method::GET, path, None).await {
            Err(ClientError::Refused { code, .. }) if code == ADDS_UP => {}
            answered => return answered,
        }
    }
    client.request(Method::GET, path, None).await
}

/// Adds a page to what was answered before; `None` if it is none, or of other days, as after midnight.
fn append(answer: &mut Value, page: &mut Value) -> Option<()> {
    let days = |answer: &Value| Some((answer.get("from")?.clone(), answer.get("to")?.clone()));
    days(answer).filter(|own| days(page).as_ref() == Some(own))?;
    let count = |answer: &Value| answer.get("differing")?.as_u64();
    let differing = count(answer)?.checked_add(count(page)?)?;
    let next = page.get_mut("next")?.take();
    let users = page.get_mut("users")?.as_array_mut()?;
    let answer = answer.as_object_mut()?;
    answer.get_mut("users")?.as_array_mut()?.append(users);
    answer.insert("differing".to_owned(), differing.into());
    answer.insert("next".to_owned(), next);
    Some(())
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let Answer { differing, users } = read(answer)?;
    if users.is_empty() {
        return Ok("nobody has used anything\n".to_owned());
    }
    let mut table = Table::new([
        "USER",
        "AGENT OR SESSION",
        "LEDGER",
        "INSTANCE",
        "DIFFERENCE",
    ]);
    for user in &users {
        let agent = user.agent.clone().unwrap_or_else(|| "-".to_owned());
        table.row(row(&user.user, agent, &user.ledger, &user.instance));
        for session in &user.sessions {
            let key = format!("  {}", session.session_key);
            table.row(row("", key, &session.ledger, &session.instance));
        }
    }
    let of = users.len();
    let sentence = match differing {
        0 => format!("\nledger and instance agree about {of} of {of}\n"),
        _ => format!(
            "\n{differing} of {of} differ; `gateway usage reconcile --help` says why they may\n"
        ),
    };
    Ok(table.to_string() + &sentence)
}

fn row(user: &str, name: String, ledger: &Used, instance: &Used) -> [String; 5] {
    let (of_ledger, of_instance) = (ledger.total(), instance.total());
    let difference = i128::from(of_ledger) - i128::from(of_instance);
    let difference = match difference == 0 && !ledger.is(instance) {
        true => "by class".to_owned(),
        false => format!("{difference:+}"),
    };
    [
        user.to_owned(),
        name,
        of_ledger.to_string(),
        of_instance.to_string(),
        difference,
    ]
}

// === impl Used ===

impl Used {
    const fn classes(&self) -> [u64; 4] {
        [
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
        ]
    }

    fn total(&self) -> u64 {
        self.classes().into_iter().fold(0, u64::saturating_add)
    }

    fn is(&self, other: &Self) -> bool {
        self.classes() == other.classes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_shown_down_to_the_session() {
        let used = |input: u64, output: u64| json!({"inputTokens": input, "outputTokens": output, "cacheReadTokens": 0, "cacheWriteTokens": 0});
        let session = json!({"sessionKey": "agent:slot-002:main", "ledger": used(150, 20), "instance": used(100, 20)});
        let answer = json!({"differing": 2, "users": [
            {"user": "alice", "agent": "slot-001", "ledger": used(100, 20), "instance": used(100, 20),
             "differs": false, "sessions": []},
            {"user": "bob", "agent": "slot-002", "ledger": used(150, 20), "instance": used(100, 20),
             "differs": true, "sessions": [session]},
            {"user": "instance:one", "agent": null, "ledger": used(1, 2), "instance": used(2, 1),
             "differs": true, "sessions": []},
        ]});
        assert_eq!(
            shown(answer).unwrap(),
            "\
USER          AGENT OR SESSION       LEDGER  INSTANCE  DIFFERENCE
alice         slot-001               120     120       +0
bob           slot-002               170     120       +50
                agent:slot-002:main  170     120       +50
instance:one  -                      3       3         by class

2 of 3 differ; `gateway usage reconcile --help` says why they may
"
        );
        let nobody = shown(json!({"differing": 0, "users": []})).unwrap();
        assert_eq!(nobody, "nobody has used anything\n");
    }

    #[test]
    fn pages_are_one_answer() {
        let of = |to: &str, differing: u64, users: &[&str], next: Option<&str>| json!({"from": "f", "to": to, "differing": differing, "users": users, "next": next});
        let mut answer = of("t", 1, &["a"], Some("a"));
        let mut page = of("t", 2, &["b", "c"], None);
        assert_eq!(append(&mut answer, &mut page), Some(()));
        assert_eq!(answer, of("t", 3, &["a", "b", "c"], None));
        assert_eq!(append(&mut answer, &mut json!({"error": {}})), None);
        let mut of_other_days = of("u", 0, &[], None);
        assert_eq!(append(&mut answer, &mut of_other_days), None);
    }

    #[test]
    fn what_is_asked_for_is_encoded() {
        let asked = Reconcile {
            from: Some("2026-11-01".to_owned()),
            to: None,
            user: Some("corp|a&b".to_owned()),
        };
        assert_eq!(
            asked.path(),
            "/api/admin/usage/reconcile?from=2026-11-01&user=corp%7Ca%26b"
        );
    }
}
