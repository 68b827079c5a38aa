//! What a deployment's ledgers say of somebody, and what the provider has written down.

use std::time::Duration;

use gateway_tests::{
    error::{Error, Result},
    ledger::{Recorded, price, record_of, settled_among},
    person::Person,
    provider::Tokens,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::deployment::Deployment;

/// How long it may take until what one gateway has recorded is told by every gateway.
const SHIPS: Duration = Duration::from_secs(60);

/// Each of somebody's model calls is in one ledger, once and to the token, so is each of their runs, and what they are told
/// through nginx comes to the same. Answers what that is.
pub(crate) async fn balance(
    deployment: &Deployment,
    name: &str,
    person: &Person,
    runs: &[String],
) -> Result<Tokens> {
    let account = deployment.account(name);
    let asked = deployment.message(name, "");
    let calls = deployment.kit.provider().calls_about(&asked).await?;
    let records = settled_among(&deployment.ledgers(), &account, calls.len()).await?;
    let mut recorded = Vec::new();
    for call in &calls {
        assert!(call.finished, "{call:?}");
        let record = record_of(call, &records);
        let record = record.unwrap_or_else(|| panic!("no record of {call:?}: {records:#?}"));
        assert!(!recorded.contains(&&record.id), "once for two: {record:?}");
        recorded.push(&record.id);
        let mut billed = call.tokens();
        billed.reasoning = record.tokens.reasoning;
        assert_eq!(record.tokens, billed, "{call:?} {record:?}");
        assert_eq!(record.nano_usd, Some(price(record.tokens)), "{record:?}");
        let how = (&*record.source, &*record.outcome);
        assert_eq!(how, ("exact", "complete"), "{record:?}");
    }
    let of_runs = records.iter().filter(|record| record.operation == "run");
    let mut of_runs: Vec<_> = of_runs.filter_map(|run| run.run_id.as_deref()).collect();
    let mut wanted: Vec<_> = runs.iter().map(String::as_str).collect();
    of_runs.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(of_runs, wanted, "{records:#?}");

    let sum: Tokens = records.iter().map(|record: &Recorded| record.tokens).sum();
    let cost: u64 = records.iter().filter_map(|record| record.nano_usd).sum();
    assert_eq!(cost, price(sum));
    told(person, sum, runs.len()).await?;
    Ok(sum)
}

/// The usage and the quota that somebody is shown, by whichever gateway.
async fn told(person: &Person, sum: Tokens, runs: usize) -> Result<()> {
    let deadline = Instant::now() + SHIPS;
    loop {
        let usage = person.get("/api/usage").await?;
        let quota = person.get("/api/quota").await?;
        let count = |name: &str| usage["total"][name].as_u64().unwrap_or_default();
        let limits = quota["limits"].as_array().into_iter().flatten();
        let limits = limits.filter(|limit| limit["dimension"] == "tokens");
        let used: Vec<&Value> = limits.map(|limit| &limit["used"]).collect();
        let is_told = count("inputTokens") == sum.input
            && count("outputTokens") == sum.output
            && count("totalTokens") == sum.total()
            && count("runs") == runs as u64;
        if is_told && used.iter().all(|used| **used == sum.total()) && !used.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let what = format!("{sum:?} and {runs} runs in {usage} and {quota}");
            return Err(Error::Late(SHIPS, what));
        }
        sleep(Duration::from_millis(200)).await;
    }
}
