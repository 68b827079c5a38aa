//! An instance that calls its provider itself, past egress, and is metered by what it announces.
//!
//! One test, since the instance has to be one of its own, and takes its time to start.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, command},
    kit::Kit,
    openclaw::OpenClaw,
    person::{Person, Socket, Turn, connect_params, send_params},
    provider::Tokens,
    secret,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_postgres::NoTls;

/// A gateway that died is not the one that meters any more after this; the product promises a minute.
const TAKES_OVER: Duration = Duration::from_secs(50);

/// A record as a ledger has it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Row {
    user: String,
    source: String,
    outcome: String,
    response_id: Option<String>,
    run_id: Option<String>,
    session: Option<String>,
    tokens: Tokens,
    cost: Option<i64>,
}

/// The model calls in the ledger of the gateway that works in `dir`, by their ids.
fn calls(dir: &Path) -> BTreeMap<Vec<u8>, Row> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let ledger = Connection::open_with_flags(dir.join("gateway.db"), flags).expect("the ledger");
    let mut query = ledger
        .prepare(
            "SELECT id, user_id, source, outcome, response_id, run_id, session_key, input_tokens, output_tokens,
                 cache_read_tokens, cache_write_tokens, cost_nano_usd
             FROM token_usage_logs WHERE operation = 'model_call'",
        )
        .expect("its table");
    let rows = query.query_map([], |row| {
        let count = |column| -> rusqlite::Result<u64> {
            let count: Option<i64> = row.get(column)?;
            Ok(count
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or(0))
        };
        let mut tokens = Tokens::default();
        tokens.input = count(7)?;
        tokens.output = count(8)?;
        tokens.cache_read = count(9)?;
        tokens.cache_write = count(10)?;
        let record = Row {
            user: row.get(1)?,
            source: row.get(2)?,
            outcome: row.get(3)?,
            response_id: row.get(4)?,
            run_id: row.get(5)?,
            session: row.get(6)?,
            tokens,
            cost: row.get(11)?,
        };
        Ok((row.get(0)?, record))
    });
    rows.and_then(Iterator::collect).expect("its rows")
}

/// What somebody's complete calls took, whichever ledger has them.
fn of(dirs: &[&Path], user: &str) -> (usize, Tokens) {
    let mut all = BTreeMap::new();
    for dir in dirs {
        all.extend(calls(dir));
    }
    let complete = all
        .values()
        .filter(|row| row.user == user && row.outcome == "complete");
    let complete: Vec<Tokens> = complete.map(|row| row.tokens).collect();
    (complete.len(), complete.into_iter().sum())
}

/// What the provider says of the calls that it answered to the end.
async fn billed(kit: &Kit, mark: &str) -> Result<(usize, Tokens)> {
    let calls = kit.provider().calls_about(mark).await?;
    let finished: Vec<Tokens> = calls
        .iter()
        .filter(|call| call.finished && call.status == 200)
        .map(gateway_tests::provider::ModelCall::tokens)
        .collect();
    Ok((finished.len(), finished.into_iter().sum()))
}

/// Waits until the ledgers have what the provider has.
async fn agree(kit: &Kit, dirs: &[&Path], user: &str, within: Duration) -> Result<Duration> {
    let begin = Instant::now();
    loop {
        let (billed, recorded) = (billed(kit, user).await?, of(dirs, user));
        if billed == recorded && billed.0 > 0 {
            return Ok(begin.elapsed());
        }
        assert!(
            begin.elapsed() < within,
            "the provider says {billed:?} of {user}, the ledgers {recorded:?}"
        );
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the ledgers have so many calls of somebody, and so many tokens.
async fn have(dirs: &[&Path], user: &str, all: (usize, u64, u64), within: Duration) -> Duration {
    let begin = Instant::now();
    loop {
        let (calls, tokens) = of(dirs, user);
        if (calls, tokens.input, tokens.output) == all {
            return begin.elapsed();
        }
        assert!(begin.elapsed() < within, "{calls} calls, {tokens:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// `gateway usage reconcile`: how it ends, and what it says.
async fn reconcile(dir: &Path, user: &str) -> (Option<i32>, Value) {
    let arguments = ["usage", "reconcile", user, "--json"];
    let said = command(dir, &arguments).await.expect("it runs");
    let answer = serde_json::from_str(&said.text).unwrap_or_else(|_| json!(said.error));
    (said.status.code(), answer)
}

/// The configuration of one of two gateways before an instance without egress.
fn observed(kit: &Kit, dir: &Path, database_url: &str) -> Result<Config> {
    let mut config = Config::new(kit, dir)?;
    let (before, rest) = config.text.split_once("[[provider]]").expect("a provider");
    let (_, after) = rest.split_once("[plan.default]").expect("a plan");
    let text = format!("{before}[plan.default]{after}");
    let text = text.replacen(
        "mode = \"pool\"",
        "mode = \"pool\"\nmetering = \"observed\"",
        1,
    );
    let text = text.replacen("tokens_per_day = 2_000_000", "tokens_per_day = 10_000", 1);
    let egress = format!("egress = \"{}\"\n", config.egress);
    config.text = text.replacen(&egress, "", 1);
    config.sharing_store(database_url, None)
}

/// The code with which a run is refused.
async fn refusal(socket: &mut Socket, message: &str) -> Result<Value> {
    let refused = socket
        .ws
        .request("chat.send", send_params(message)?)
        .await?;
    Ok(refused.pointer("/error/code").cloned().unwrap_or_default())
}

#[tokio::test]
async fn d6_60_what_an_instance_announces_is_charged_once_by_one_of_two_gateways() -> Result<()> {
    let mut kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let password = secret::random()?;
    let provider = json!({
        "models": {"providers": {"acme": {
            "baseUrl": format!("{}/v1", kit.provider), "apiKey": kit.provider_key, "api": "openai-completions",
            "models": [{"id": "test-small", "name": "test-small", "reasoning": false, "input": ["text"],
                "contextWindow": 128_000, "maxTokens": 8_192}],
        }}},
        "agents": {"defaults": {"model": {"primary": "acme/test-small"}}},
    });
    let instance = dir.path().join("openclaw");
    let openclaw = OpenClaw::start_with(kit.install.clone(), &instance, &password, &provider);
    let begin = Instant::now();
    let openclaw = openclaw.await?;
    println!("OpenClaw is there after {:?}", begin.elapsed());
    kit.openclaw = openclaw.url();
    kit.openclaw_password = password;

    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for dir in [&first, &second] {
        std::fs::create_dir(dir).expect("a directory");
    }
    let database_url = kit.database().await?;
    let config = observed(&kit, &first, &database_url)?;
    let replica = config.replica(&second)?;
    let gateways = tokio::try_join!(
        Gateway::start(config, &first),
        Gateway::start(replica, &second),
    );
    let mut gateways = <[Gateway; 2]>::from(gateways?);
    let dirs = [first.as_path(), second.as_path()];
    let mark = secret::mark()?;
    let (ada, bob) = (&*format!("ada-{mark}"), &*format!("bob-{mark}"));

    let of_ada = Person::sign_in(&kit, ada, &gateways[0]).await?;
    let of_bob = Person::sign_in(&kit, bob, &gateways[1]).await?;
    let (mut by_ada, mut by_bob) = tokio::try_join!(of_ada.open(), of_bob.open())?;
    // Chat and a tool loop of one, at one gateway, and chat of another at the other.
    let message = format!("{ada} [[in=300]] [[out=40]] [[cache_read=200]]");
    let of_another = format!("{bob} [[in=100]] [[out=20]]");
    let turns = tokio::try_join!(by_ada.turn(&message), by_bob.turn(&of_another))?;
    for turn in <[Turn; 2]>::from(turns) {
        assert_eq!(turn.state, "final", "{turn:?}");
    }
    let message = format!("{ada} [[tool=ls {{\"path\":\".\"}}]] [[in=70]] [[out=9]]");
    let loops = by_ada.turn(&message).await?;
    assert_eq!(loops.state, "final", "{loops:?}");

    let within = Duration::from_secs(20);
    agree(&kit, &dirs, ada, within).await?;
    agree(&kit, &dirs, bob, within).await?;
    let (one, other) = (calls(&first), calls(&second));
    assert!(one.is_empty() != other.is_empty(), "{one:?} {other:?}");
    let holder = usize::from(one.is_empty());
    let all = calls(dirs[holder]);
    assert_eq!(all.len(), 4, "{all:?}");
    for row in all.values() {
        assert_eq!((&*row.source, &*row.outcome), ("observed", "complete"));
        assert!(row.response_id.is_some() && row.cost.is_some(), "{row:?}");
        assert!(
            row.session
                .as_deref()
                .is_some_and(|key| key.starts_with("agent:slot-"))
        );
    }
    let of_loop = all
        .values()
        .filter(|row| row.run_id.as_deref() == Some(&loops.run_id));
    assert_eq!(of_loop.count(), 2, "a run with a tool is two calls");
    // 300 in at 3 USD per million, 200 from the cache at 0.30, 40 out at 15.
    let costs: Vec<_> = all.values().filter_map(|row| row.cost).collect();
    assert!(costs.contains(&(900_000 + 60_000 + 600_000)), "{costs:?}");

    // The counters, which both share, have each once.
    let used = async |person: &Person, tokens: u64| {
        let standing = person.wait_for("/api/quota", |quota| {
            let mut limits = quota["limits"].as_array().into_iter().flatten();
            limits.any(|limit| limit["dimension"] == "tokens" && limit["used"] == tokens)
        });
        standing.await
    };
    used(&of_ada, 300 + 40 + 200 + 2 * 79).await?;
    used(&of_bob, 120).await?;

    // What was aborted is in the ledger without tokens: the instance does not say them.
    let run = by_ada
        .start(&format!("{ada} [[words=300]] [[chunk_delay=50]]"))
        .await?;
    let begun = |frame: &Value| {
        let payload = &frame["payload"];
        frame["event"] == "chat" && payload["runId"] == *run && payload["state"] == "delta"
    };
    by_ada.ws.find(begun).await?;
    by_ada
        .ws
        .call("chat.abort", json!({"sessionKey": "main", "runId": run}))
        .await?;
    assert_eq!(by_ada.end_of(&run).await?.state, "aborted");
    let begin = Instant::now();
    loop {
        let all = calls(dirs[holder]);
        if let Some(row) = all.values().find(|row| row.outcome == "aborted") {
            assert_eq!(
                (row.run_id.as_deref(), row.tokens.total(), row.cost),
                (Some(&*run), 0, None)
            );
            break;
        }
        assert!(begin.elapsed() < within, "{all:?}");
        sleep(Duration::from_millis(200)).await;
    }

    // What nobody is shown, and what is too large to be shown, is announced in other ways, or not at all.
    let cal = &*format!("cal-{mark}");
    let of_cal = Person::sign_in(&kit, cal, &gateways[1 - holder]).await?;
    let mut by_cal = of_cal.open().await?;
    let large = |of: &str| {
        let content = "x".repeat(140 << 10);
        let tool = json!({"path": "large.txt", "content": content});
        format!("{of} [[tool=write {tool}]] [[in=30]] [[out=3]]")
    };
    for message in [
        format!("{cal} [[say=NO_REPLY]] [[in=60]] [[out=6]]"),
        large(cal),
    ] {
        let turn = by_cal.turn(&message).await?;
        assert_eq!(turn.state, "final", "{turn:?}");
    }
    // OpenClaw asks again for something to show; a tool is two calls.
    let heard = have(&dirs, cal, (4, 60 + 100 + 60, 6 + 20 + 6), within).await;
    println!("what is hidden is recorded {heard:?} after the run");

    // The instance's own numbers are these, whichever gateway compares them.
    for dir in dirs {
        // The database has it a second or two later.
        let begin = Instant::now();
        loop {
            let (code, same) = reconcile(dir, cal).await;
            if (code, &same["differing"]) == (Some(0), &json!(0)) {
                break;
            }
            assert!(begin.elapsed() < within, "{same}");
            sleep(Duration::from_millis(200)).await;
        }
        let (code, same) = reconcile(dir, ada).await;
        assert_eq!((code, &same["differing"]), (Some(0), &json!(0)), "{same}");
        assert_eq!(same["users"][0]["instance"]["totalTokens"], 698, "{same}");
    }

    // Nobody listens when bob goes on, but the one that takes over finds it; once, with what was recorded before.
    gateways[holder].kill9().await?;
    let killed = Instant::now();
    let survivor = &gateways[1 - holder];
    let of_cal = Person::sign_in(&kit, cal, survivor).await?;
    let mut by_cal = of_cal.open().await?;
    for message in [
        format!("{cal} [[say=NO_REPLY]] [[in=70]] [[out=7]]"),
        large(cal),
    ] {
        let turn = by_cal.turn(&message).await?;
        assert_eq!(turn.state, "final", "{turn:?}");
    }
    let of_bob = Person::sign_in(&kit, bob, survivor).await?;
    let mut by_bob = of_bob.open().await?;
    let turn = by_bob
        .turn(&format!("{bob} unheard [[in=500]] [[out=50]]"))
        .await?;
    assert_eq!(turn.state, "final", "{turn:?}");
    agree(&kit, &dirs, bob, TAKES_OVER).await?;
    have(&dirs, cal, (8, 220 + 230, 32 + 33), within).await;
    println!("taken over {:?} after the kill", killed.elapsed());
    used(&of_bob, 120 + 550).await?;
    let turn = by_bob
        .turn(&format!("{bob} heard [[in=9000]] [[out=400]]"))
        .await?;
    assert_eq!(turn.state, "final", "{turn:?}");
    agree(&kit, &dirs, bob, within).await?;
    used(&of_bob, 120 + 550 + 9_400).await?;

    // Charged afterwards, so that it was too much; but now nothing begins any more, also from OpenClaw's page, to which
    // egress would say so.
    assert_eq!(
        refusal(&mut by_bob, "no more").await?,
        "DAILY_TOKENS_EXCEEDED"
    );
    let mut page = connect_params(&json!({}));
    page["client"]["id"] = "openclaw-control-ui".into();
    page["client"]["mode"] = "webchat".into();
    let mut by_page = of_bob.open_with(page).await?;
    assert_eq!(
        refusal(&mut by_page, "no more").await?,
        "DAILY_TOKENS_EXCEEDED"
    );

    // The one that was killed comes back, and counts nothing again.
    gateways[holder].start_again().await?;
    sleep(Duration::from_secs(2)).await;
    used(&of_bob, 120 + 550 + 9_400).await?;
    let (code, same) = reconcile(dirs[holder], bob).await;
    assert_eq!((code, &same["differing"]), (Some(0), &json!(0)), "{same}");

    // A ledger that has lost something is told.
    let connected = tokio_postgres::connect(&database_url, NoTls).await;
    let (database, connection) = connected.expect("the database");
    tokio::spawn(connection);
    let lose = "DELETE FROM token_usage_logs WHERE user_id = $1 AND input_tokens = 500";
    let lost = database.execute(lose, &[&bob]).await.expect("lost");
    assert_eq!(lost, 1, "what two ledgers may have is there once");
    let (code, differ) = reconcile(dirs[holder], bob).await;
    assert_eq!(
        (code, &differ["differing"]),
        (Some(1), &json!(1)),
        "{differ}"
    );
    let session = &differ["users"][0]["sessions"][0];
    assert_eq!(session["instance"]["totalTokens"], 10_070, "{differ}");
    assert_eq!(session["ledger"]["totalTokens"], 9_520, "{differ}");
    Ok(())
}
