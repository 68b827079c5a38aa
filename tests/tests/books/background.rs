//! What an agent does by itself, with no socket open.

use gateway_tests::{error::Result, openclaw::operator, provider::Api, ws::Ws};
use serde_json::{Value, json};

use crate::{
    balance::balance,
    world::{REFUSED, Somebody, World},
};

const YEAR_MS: u64 = 365 * 86_400_000;

/// A job of somebody's agent, as an administrator of the instance makes it.
async fn job(admin: &mut Ws, somebody: &Somebody) -> Result<Value> {
    let message = format!("{} by the clock [[in=41]] [[out=5]]", somebody.name);
    let job = json!({
        "name": somebody.name, "agentId": somebody.agent, "sessionTarget": "isolated", "wakeMode": "now",
        "schedule": {"kind": "every", "everyMs": YEAR_MS},
        "payload": {"kind": "agentTurn", "message": message},
        "delivery": {"mode": "none"},
    });
    Ok(admin.call("cron.add", job).await?["id"].clone())
}

#[tokio::test]
async fn d6_60_what_an_agent_does_by_itself_is_its_persons() -> Result<()> {
    let world = World::start(Api::Chat, |_, _| {}).await?;
    let (cal, dee) = (world.person("cal").await?, world.person("dee").await?);
    let scopes = ["operator.admin", "operator.read", "operator.write"];
    let (openclaw, password) = (&world.kit.openclaw, &world.kit.openclaw_password);
    let (mut admin, _) = operator(openclaw, password, &scopes).await?;

    let id = job(&mut admin, &cal).await?;
    let run = json!({"id": id, "mode": "force"});
    admin.call("cron.run", run.clone()).await?;
    world.answered(&cal, "by the clock").await?;
    let session = format!("agent:{}:main", cal.agent);
    let wake = json!({
        "mode": "now", "text": "wake up", "agentId": cal.agent, "sessionKey": session,
    });
    admin.call("wake", wake).await?;
    world.answered(&cal, "heartbeat").await?;

    // Nobody has sent a message.
    let sum = balance(&world, &cal, &dee, 0).await?;
    assert_eq!((sum.tokens.input, sum.tokens.output), (141, 25));
    assert_eq!(balance(&world, &dee, &cal, 0).await?.total, 0);

    // Where nothing is left it is refused as what somebody asks for is.
    let none = json!({"quotaTokensPerDay": sum.total});
    let set = cal.person.post("/api/openclaw/initialize", &none).await?;
    set.expect_status(::http::StatusCode::OK)?;
    admin.call("cron.run", run).await?;
    world.metric_becomes(REFUSED, 1).await?;
    assert_eq!(balance(&world, &cal, &dee, 0).await?, sum);
    admin.call("cron.remove", json!({"id": id})).await?;
    world.everything_is_somebodys(&[&cal]).await
}
