//! The path: a person with a token of an OpenID provider chats through the gateway with the real OpenClaw, in a workspace
//! of their own, metered at egress, stopped at their quota.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::path::{Path, PathBuf};

use gateway_tests::{
    canary::files_with,
    error::{Error, Result},
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    person::{Person, Socket, connect_params, send_params},
    secret,
    ws::Ws,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

/// What the test configuration charges, in nano-USD per token.
const INPUT: u64 = 3_000;
const OUTPUT: u64 = 15_000;
const CACHE_READ: u64 = 300;

struct Bill {
    tokens: u64,
    nano_usd: u64,
    calls: u64,
}

/// What the provider's own record says of the calls whose message holds `mark`.
async fn bill(kit: &Kit, mark: &str) -> Result<Bill> {
    let mut bill = Bill {
        tokens: 0,
        nano_usd: 0,
        calls: 0,
    };
    for call in kit.provider().calls_about(mark).await? {
        let input = call.prompt_tokens - call.cached_tokens;
        bill.tokens += call.prompt_tokens + call.completion_tokens;
        bill.nano_usd +=
            input * INPUT + call.cached_tokens * CACHE_READ + call.completion_tokens * OUTPUT;
        bill.calls += 1;
    }
    Ok(bill)
}

fn dollars(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let cents = text.find('.').map_or(0, |dot| dot + 3);
    let trimmed = text.trim_end_matches('0');
    text[..trimmed.len().max(cents)].to_owned()
}

fn standing<'a>(quota: &'a Value, dimension: &str) -> &'a Value {
    quota["limits"]
        .as_array()
        .and_then(|limits| limits.iter().find(|limit| limit["dimension"] == dimension))
        .unwrap_or(&Value::Null)
}

async fn egress_refusals(gateway: &Gateway) -> Result<u64> {
    let metrics = http::get(&gateway.admin_url("/metrics"), None)
        .await?
        .text();
    let line = metrics.lines().find(|line| {
        line.starts_with("gateway_refusals_total")
            && line.contains(r#"plane="egress""#)
            && line.contains(r#"reason="quota""#)
    });
    Ok(line
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0))
}

/// One person's conversation from the first message to a used-up quota and back. One test, since its parts build on each
/// other, and since making an agent takes the real OpenClaw some seconds.
#[tokio::test]
async fn a_conversation_is_metered_to_the_token_and_held_to_its_quota() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    let alice = Person::sign_in(&kit, "alice", &gateway).await?;
    let mark = secret::mark()?;

    // The first message of a new user just works.
    let mut socket = alice.open().await?;
    socket
        .ws
        .call("sessions.messages.subscribe", json!({"key": "main"}))
        .await?;
    let hello = &socket.hello;
    let agent = &hello["snapshot"]["sessionDefaults"]["defaultAgentId"];
    assert!(
        agent.as_str().is_some_and(|id| id.starts_with("slot-")),
        "{agent}"
    );
    for foreign in [
        "deviceToken",
        "config.patch",
        "stateDir",
        "pluginSurfaceUrls",
    ] {
        assert!(
            !hello.to_string().contains(foreign),
            "hello-ok shows {foreign}"
        );
    }
    ten_turns(&mut socket, &mark).await?;
    agrees(&kit, &alice, &mark, dir.path(), 10).await?;

    the_quota_holds(&kit, &alice, &mut socket, &gateway, &mark).await?;

    // Restarted without a warning, the gateway knows what was used.
    let before = alice.get("/api/quota").await?;
    gateway.kill9().await?;
    gateway.start_again().await?;
    assert_eq!(
        alice.get("/api/quota").await?["limits"],
        before["limits"],
        "after kill -9"
    );
    let mut socket = alice.open().await?;
    let turn = socket.turn(&format!("{mark} after a restart")).await?;
    assert_eq!(
        turn.state, "final",
        "the agent that was made before still works: {}",
        turn.text
    );

    let key = kit.provider_key.as_str();
    for calls in kit.provider().calls_about(&mark).await? {
        assert_eq!(calls.key, key, "the provider gets the real key");
    }
    // The configuration names the file that holds the key; everything else must not hold it.
    let below = |name: &str| dir.path().join(name);
    let places = [
        kit.openclaw_dir.clone(),
        below("users"),
        below("gateway.db"),
        below("gateway.db-wal"),
        below("gateway.log"),
    ];
    let nowhere = Vec::<PathBuf>::new();
    for secret in [key, &alice.token] {
        assert_eq!(files_with(&places, secret)?, nowhere);
    }
    let ours = [below("gateway.db"), below("gateway.log"), below("users")];
    assert_eq!(files_with(&ours, "ocg-vk-")?, nowhere, "the virtual key");
    assert_eq!(files_with(&ours, &mark)?, nowhere, "what was said");
    Ok(())
}

/// Ten turns: eight plain ones of different counts, one with a tool call, one that is aborted.
async fn ten_turns(socket: &mut Socket, mark: &str) -> Result<()> {
    for n in 1..=8_u32 {
        let (input, output) = (100 * n + 7, 10 * n + 3);
        let cached = if n % 3 == 0 { 50 * n } else { 0 };
        let message = format!("{mark} {n} [[in={input}]] [[out={output}]] [[cache_read={cached}]]");
        let turn = socket.turn(&message).await?;
        assert_eq!(turn.state, "final", "turn {n}: {}", turn.text);
        assert!(turn.text.contains(mark), "the reply: {}", turn.text);
    }
    let message = format!("{mark} tool [[in=211]] [[out=19]] [[tool=ls {{\"path\":\".\"}}]]");
    assert_eq!(socket.turn(&message).await?.state, "final");

    let message = format!("{mark} long [[words=150]] [[chunk_delay=20]] [[in=300]] [[out=200]]");
    let run_id = socket.start(&message).await?;
    let of_run = |frame: &Value| {
        frame["event"] == "chat"
            && frame["payload"]["runId"] == run_id.as_str()
            && frame["payload"]["state"] == "delta"
    };
    socket.ws.find(of_run).await?;
    let aborted = socket
        .ws
        .call("chat.abort", json!({"sessionKey": "main", "runId": run_id}))
        .await?;
    assert_eq!(aborted["aborted"], true);
    assert_eq!(socket.end_of(&run_id).await?.state, "aborted");
    Ok(())
}

/// The provider's record, `/api/usage`, `/api/quota` and `token_usage_logs` say the same.
async fn agrees(kit: &Kit, person: &Person, mark: &str, dir: &Path, runs: u64) -> Result<()> {
    // The aborted answer is read to its end before it is recorded.
    let settled =
        |usage: &Value| usage["total"]["runs"] == runs && usage["total"]["estimated"] == 0;
    let reserved = |quota: &Value| standing(quota, "tokens")["reserved"] == 0;
    person.wait_for("/api/usage", settled).await?;
    let quota = person.wait_for("/api/quota", reserved).await?;
    let usage = person.get("/api/usage").await?;
    let bill = bill(kit, mark).await?;
    assert_eq!(bill.calls, runs + 1, "one turn made two model calls");
    assert_eq!(usage["total"]["totalTokens"], bill.tokens, "/api/usage");
    assert_eq!(usage["total"]["cost"], dollars(bill.nano_usd), "/api/usage");
    assert_eq!(usage["total"]["unpriced"], 0);
    assert_eq!(
        standing(&quota, "tokens")["used"],
        bill.tokens,
        "/api/quota"
    );
    assert_eq!(
        standing(&quota, "cost")["used"],
        dollars(bill.nano_usd),
        "/api/quota"
    );
    assert_eq!(standing(&quota, "calls")["used"], runs, "/api/quota");

    let database =
        Connection::open_with_flags(dir.join("gateway.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)
            .expect("the store can be read");
    let mut joined = 0;
    for call in kit.provider().calls_about(mark).await? {
        let (input, cached, output, cost, source, run_id, settled) = database
            .query_row(
                "SELECT input_tokens, cache_read_tokens, output_tokens, cost_nano_usd, source, run_id, settled
                 FROM token_usage_logs WHERE response_id = ?1",
                [&call.id],
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?.unsigned_abs(),
                        row.get::<_, i64>(1)?.unsigned_abs(),
                        row.get::<_, i64>(2)?.unsigned_abs(),
                        row.get::<_, i64>(3)?.unsigned_abs(),
                        row.get::<_, String>(4)?,
                        row.get::<_, Option<String>>(5)?,
                        row.get::<_, i64>(6)?.unsigned_abs(),
                    ))
                },
            )
            .expect("one row for each call that the provider billed");
        let id = &call.id;
        assert_eq!(input + cached, call.prompt_tokens, "{id}");
        assert_eq!(cached, call.cached_tokens, "{id}");
        assert_eq!(output, call.completion_tokens, "{id}");
        assert_eq!(
            cost,
            input * INPUT + cached * CACHE_READ + output * OUTPUT,
            "{id}"
        );
        assert_eq!(source, "exact", "{id}");
        assert_eq!(settled, 1, "{id}");
        joined += u64::from(run_id.is_some());
    }
    assert!(
        joined >= runs,
        "all calls but that of the aborted run are joined: {joined}"
    );
    Ok(())
}

async fn the_quota_holds(
    kit: &Kit,
    person: &Person,
    socket: &mut Socket,
    gateway: &Gateway,
    mark: &str,
) -> Result<()> {
    let used = bill(kit, mark).await?.tokens;
    let limit = used + 100;
    let set = json!({"quotaTokensPerDay": limit});
    let answer = person.post("/api/openclaw/initialize", &set).await?;
    assert_eq!(answer.json()?["quotaTokensPerDay"], limit);
    let too_much = json!({"quotaTokensPerDay": 2_000_001});
    assert_eq!(
        person
            .post("/api/openclaw/initialize", &too_much)
            .await?
            .status,
        403
    );

    // The first of two model calls uses up what is left, the second one is stopped: in one attempt, in plain words.
    let message = format!("{mark} over [[in=500]] [[out=50]] [[tool=ls {{\"path\":\".\"}}]]");
    let calls = bill(kit, mark).await?.calls;
    let refusals = egress_refusals(gateway).await?;
    let turn = socket.turn(&message).await?;
    let sentence = format!(
        "Daily token limit exceeded ({} / {limit} tokens).",
        used + 550
    );
    assert!(
        turn.text.contains(&sentence),
        "the person reads it: {turn:?}"
    );
    assert_eq!(
        bill(kit, mark).await?.calls,
        calls + 1,
        "nothing more reached the provider"
    );
    assert_eq!(egress_refusals(gateway).await?, refusals + 1, "one attempt");

    let refused = socket
        .ws
        .request("chat.send", send_params(&format!("{mark} no"))?)
        .await?;
    let error = &refused["error"];
    assert_eq!(error["code"], "DAILY_TOKENS_EXCEEDED", "{refused}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| text.starts_with(&sentence)),
        "{refused}"
    );
    assert_eq!(error["retryable"], false);
    assert!(
        error["retryAfterMs"]
            .as_u64()
            .is_some_and(|ms| ms <= 86_400_000),
        "{refused}"
    );
    assert_eq!(error["details"]["limit"], limit);
    let quota = person.get("/api/quota").await?;
    let runs = &standing(&quota, "calls")["used"];
    assert_eq!(*runs, 11, "a refused message is no run");
    let why = person.get("/api/quota/explain").await?;
    assert_eq!(why["run"]["allowed"], false, "{why}");
    assert_eq!(why["run"]["reasons"][0]["code"], "DAILY_TOKENS_EXCEEDED");

    // OpenClaw's page shows a refusal as a tooltip: its person reads it in the conversation.
    let mut params = connect_params(&json!({}));
    params["client"]["id"] = json!("openclaw-control-ui");
    params["client"]["mode"] = json!("webchat");
    let turn = person.open_with(params).await?.turn(mark).await?;
    assert!(turn.text.contains(&sentence), "{turn:?}");
    assert_eq!(bill(kit, mark).await?.calls, calls + 1, "and nothing ran");

    let raise = json!({"quotaTokensPerDay": 2_000_000});
    assert_eq!(
        person
            .post("/api/openclaw/initialize", &raise)
            .await?
            .status,
        200
    );
    let turn = socket.turn(&format!("{mark} again")).await?;
    assert_eq!(
        turn.state, "final",
        "after the limit was raised: {}",
        turn.text
    );
    Ok(())
}

#[tokio::test]
async fn a_gateway_password_opens_sockets_and_nothing_else() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    let admin = Person::sign_in(&kit, "admin", &gateway).await?;

    let early = http::get(
        &gateway.url("/api/openclaw/credentials"),
        Some(&admin.token),
    )
    .await?;
    assert_ne!(early.status, 200, "no credentials without an environment");
    let made = admin
        .post("/api/openclaw/initialize", &json!({}))
        .await?
        .json()?;
    assert_eq!(made["profileName"], "user-admin", "{made}");
    assert_eq!(made["hasSandbox"], false);
    let again = admin
        .post("/api/openclaw/initialize", &json!({}))
        .await?
        .json()?;
    assert_eq!(made, again, "idempotent");
    let sandbox = admin
        .post("/api/openclaw/initialize", &json!({"enableSandbox": true}))
        .await?;
    assert_eq!(sandbox.status, 409, "never a false sandbox");

    let info = admin.get("/api/user/info").await?;
    assert_eq!(info["user_id"], "admin", "{info}");
    assert_eq!(info["roles"], json!(["admin"]), "{info}");
    let status = admin.get("/api/openclaw/status").await?;
    assert_eq!(status["status"], "ready", "{status}");

    let credentials = admin.get("/api/openclaw/credentials").await?;
    let password = credentials["password"].as_str().unwrap_or_default();
    let mut ws = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    ws.event("connect.challenge").await?;
    let hello = ws
        .call("connect", connect_params(&json!({"password": password})))
        .await?;
    assert_eq!(
        hello["auth"]["scopes"],
        json!(["operator.read", "operator.write"])
    );
    let key = credentials["sessionKey"].clone();
    ws.call("chat.history", json!({"sessionKey": key})).await?;

    let bearer = http::get(&gateway.url("/api/user/info"), Some(password)).await?;
    assert_eq!(bearer.status, 401, "a password is for connect only");
    let upgrade = format!("Bearer {password}");
    let refused = Ws::connect(&gateway.ws_url("/ws"), &[("authorization", &upgrade)]).await;
    assert!(matches!(refused, Err(Error::Refused(status)) if status == 401));
    Ok(())
}

/// A gateway that is told to stop in the middle of an answer records what the provider has been asked for: the run, and
/// the model call as far as it came.
#[tokio::test]
async fn a_gateway_that_stops_in_the_middle_of_a_run_records_it() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    let bob = Person::sign_in(&kit, "bob", &gateway).await?;
    let mut socket = bob.open().await?;
    let mark = secret::mark()?;
    let message = format!("{mark} [[words=2000]] [[chunk_delay=50]] [[in=500]] [[out=2000]]");
    let run_id = socket.start(&message).await?;
    let begun = |frame: &Value| frame["event"] == "chat" && frame["payload"]["state"] == "delta";
    socket.ws.find(begun).await?;

    gateway.kill().await?;
    assert_eq!(socket.ws.closed().await?.0, 1012, "clients come back on it");
    let log = gateway.log()?;
    assert!(
        log.contains("ledger closed"),
        "everything is stored and settled: {log}"
    );
    gateway.start_again().await?;
    let usage = bob.get("/api/usage").await?;
    assert_eq!(usage["total"]["runs"], 1, "{usage}");
    let records = bob.get("/api/usage/records").await?;
    let records = records["records"].as_array().cloned().unwrap_or_default();
    let call = records
        .iter()
        .find(|record| record["operation"] == "model_call");
    let call = call.unwrap_or(&Value::Null);
    assert_eq!(call["source"], "estimated", "{records:?}");
    assert!(
        call["inputTokens"]
            .as_u64()
            .is_some_and(|tokens| tokens > 0),
        "{call}"
    );
    assert!(
        call["outputTokens"]
            .as_u64()
            .is_some_and(|tokens| tokens > 0),
        "{call}"
    );
    assert!(
        records
            .iter()
            .any(|record| record["runId"] == run_id.as_str()),
        "{records:?}"
    );
    let quota = bob.get("/api/quota").await?;
    assert_eq!(
        standing(&quota, "tokens")["used"],
        usage["total"]["totalTokens"]
    );
    assert_eq!(standing(&quota, "tokens")["reserved"], 0);
    Ok(())
}
