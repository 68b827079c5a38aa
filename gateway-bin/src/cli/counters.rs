//! `gateway counters …`: where what is used is counted, on the gateway's own host.

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::operate::{OperateError, Reach, Table, done, print, read};
use crate::operator::{ClientError, OperatorClient, percent_encoded};

/// Shows where what is used is counted, and whose ledgers are counted together, at a gateway that runs on this host.
#[derive(Debug, Args)]
pub(super) struct Counters {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Where the counters are, and whose ledgers are counted in them.
    #[command(after_help = "Example: gateway counters list")]
    List,
    /// Wait no longer for a ledger that is lost. What it has that was not shipped is not counted any more.
    #[command(after_help = "Example: gateway counters forget LEDGER")]
    Forget {
        /// The ledger's name.
        #[arg(value_name = "LEDGER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        ledger: String,
    },
}

#[derive(Debug, Deserialize)]
struct Shown {
    store: String,
    ready: bool,
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    ledger: String,
    counted: bool,
}

const COUNTERS: &str = "/api/admin/counters";

// === impl Counters ===

impl Counters {
    /// Does it, and prints the answer.
    pub(super) async fn run(self) -> Result<(), OperateError> {
        let client = OperatorClient::new(self.reach.socket()?);
        match self.what {
            What::List => {
                let answer = client.request(Method::GET, COUNTERS, None).await?;
                print(self.reach.json, answer, shown)
            }
            What::Forget { ledger } => {
                let path = format!("{COUNTERS}/members/{}", percent_encoded(&ledger));
                client.request(Method::DELETE, &path, None).await?;
                done(self.reach.json, "forgotten\n")
            }
        }
    }
}

fn shown(answer: Value) -> Result<String, ClientError> {
    let Shown {
        store,
        ready,
        members,
    } = read(answer)?;
    let state = match ready {
        true => "they say what the ledgers say",
        false => "they are being made from the ledgers",
    };
    let sentence = format!("in {store}; {state}\n");
    if members.is_empty() {
        return Ok(sentence);
    }
    let mut table = Table::new(["LEDGER", "STATE"]);
    for Member { ledger, counted } in members {
        let state = match counted {
            true => "counted",
            false => "waited for",
        };
        table.row([ledger, state.to_owned()]);
    }
    Ok(format!("{sentence}\n{table}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_waited_for_is_said() {
        let member = |ledger: &str, counted: bool| json!({"ledger": ledger, "counted": counted});
        let answer = json!({
            "store": "redis", "ready": false, "members": [member("one", true), member("two", false)],
        });
        assert_eq!(
            shown(answer).unwrap(),
            "in redis; they are being made from the ledgers\n\nLEDGER  STATE\none     counted\ntwo     waited for\n"
        );
        let alone = json!({"store": "memory", "ready": true, "members": []});
        let said = shown(alone).unwrap();
        assert_eq!(said, "in memory; they say what the ledgers say\n");
    }
}
