//! Prices that change while the gateway runs.

use gateway_tests::{error::Result, person::Socket, provider::Api};
use serde_json::Value;

use crate::world::{Somebody, World};

/// Input at 3 USD per million tokens, and at 30.
const COSTS: [&str; 2] = ["0.00315", "0.03015"];

/// Says something, and answers the records of what somebody's model calls cost, oldest first.
async fn costs(socket: &mut Socket, somebody: &Somebody, turns: usize) -> Result<Vec<Value>> {
    let message = format!("{} [[in=1000]] [[out=10]]", somebody.name);
    assert_eq!(socket.turn(&message).await?.state, "final");
    let calls = |page: &Value| {
        let records = page["records"].as_array().into_iter().flatten().rev();
        let calls = records.filter(|record| record["operation"] == "model_call");
        calls.cloned().collect::<Vec<_>>()
    };
    let path = "/api/usage/records";
    let is_recorded = |page: &Value| calls(page).len() == turns;
    Ok(calls(&somebody.person.wait_for(path, is_recorded).await?))
}

#[tokio::test]
async fn a_price_that_is_read_again_is_that_of_later_calls() -> Result<()> {
    let mut world = World::start(Api::Chat, |_, _| {}).await?;
    let ivy = world.person("ivy").await?;
    let mut socket = ivy.person.open().await?;
    let before = costs(&mut socket, &ivy, 1).await?;
    assert_eq!(before[0]["cost"], COSTS[0], "{before:?}");

    // One that is none changes nothing.
    let mut config = world.gateway.config().clone();
    config.text = config.text.replace("input = \"3.00\"", "input = \"-3\"");
    world.reload(config.clone(), "refused").await?;
    let same = costs(&mut socket, &ivy, 2).await?;
    assert_eq!((&same[0], &same[1]["cost"]), (&before[0], &COSTS[0].into()));

    config.text = config.text.replace("input = \"-3\"", "input = \"30\"");
    world.reload(config, "ok").await?;
    let after = costs(&mut socket, &ivy, 3).await?;
    assert_eq!(after[..2], same, "as they were");
    assert_eq!(after[2]["cost"], COSTS[1]);
    assert_eq!(after[2]["price"]["output"], before[0]["price"]["output"]);
    let usage = ivy.person.get("/api/usage").await?;
    assert_eq!(usage["total"]["cost"], "0.03645", "{usage}");
    let quota = ivy.person.get("/api/quota").await?;
    let mut limits = quota["limits"].as_array().into_iter().flatten();
    let cost = limits.find(|limit| limit["dimension"] == "cost");
    assert_eq!(
        cost.map(|cost| &cost["used"]),
        Some(&usage["total"]["cost"])
    );
    Ok(())
}
