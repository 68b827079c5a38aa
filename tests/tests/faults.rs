//! What is left after a fault: of a client, of an instance, of the gateway itself.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; the numbers are for people"
)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    env, fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gateway_tests::{
    dice::Dice,
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    openclaw::{OpenClaw, operator},
    person::{Person, Socket},
    provider::ModelCall,
    secret,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

/// What the test configuration charges, in nano-USD per token.
const INPUT: u64 = 3_000;
const OUTPUT: u64 = 15_000;
const CACHE_READ: u64 = 300;

fn standing<'a>(quota: &'a Value, dimension: &str) -> &'a Value {
    let limits = quota["limits"].as_array();
    let found = limits.and_then(|limits| limits.iter().find(|l| l["dimension"] == dimension));
    found.unwrap_or(&Value::Null)
}

/// A row of the ledger.
#[derive(Debug)]
struct Row {
    operation: String,
    source: String,
    outcome: String,
    input: u64,
    cached: u64,
    output: u64,
    total: u64,
    nano_usd: u64,
    settled: u64,
}

/// The ledger's rows by their id as text.
fn rows(dir: &Path, user: &str) -> BTreeMap<String, Row> {
    let path = dir.join("gateway.db");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let database = database.expect("the store can be read");
    let mut select = database
        .prepare(
            "SELECT lower(hex(id)), operation, source, outcome, coalesce(input_tokens, 0),
                 coalesce(cache_read_tokens, 0), coalesce(output_tokens, 0), total_tokens,
                 coalesce(cost_nano_usd, 0), settled FROM token_usage_logs WHERE user_id = ?1",
        )
        .expect("the ledger");
    let rows = select.query_map([user], |row| {
        let count = |n| row.get::<_, i64>(n).map(i64::unsigned_abs);
        let hex: String = row.get(0)?;
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
        let id = [
            part(0, 8),
            part(8, 12),
            part(12, 16),
            part(16, 20),
            part(20, 32),
        ]
        .join("-");
        Ok((
            id,
            Row {
                operation: row.get(1)?,
                source: row.get(2)?,
                outcome: row.get(3)?,
                input: count(4)?,
                cached: count(5)?,
                output: count(6)?,
                total: count(7)?,
                nano_usd: count(8)?,
                settled: count(9)?,
            },
        ))
    });
    rows.and_then(Iterator::collect).expect("the ledger's rows")
}

#[tokio::test]
async fn a_run_whose_client_is_gone_goes_on_and_is_metered() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    let alice = Person::sign_in(&kit, "alice", &gateway).await?;
    let mark = secret::mark()?;

    let mut socket = alice.open().await?;
    let message = format!("{mark} [[words=120]] [[chunk_delay=25]] [[in=400]] [[out=240]]");
    let run_id = socket.start(&message).await?;
    let of_run = |frame: &Value| {
        frame["payload"]["runId"] == run_id.as_str() && frame["payload"]["state"] == "delta"
    };
    socket.ws.find(of_run).await?;
    drop(socket);

    let reserved = |quota: &Value| {
        standing(quota, "tokens")["reserved"] == 0 && standing(quota, "tokens")["used"] == 640
    };
    let quota = alice.wait_for("/api/quota", reserved).await?;
    assert_eq!(standing(&quota, "calls")["used"], 1);
    let calls = kit.provider().calls_about(&mark).await?;
    let [call] = calls.as_slice() else {
        panic!("one call: {calls:?}")
    };
    assert!(call.finished, "it went on to its end");
    let rows = rows(dir.path(), "alice");
    let row = call.client_request_id.as_ref().and_then(|id| rows.get(id));
    let row = row.expect("a row of the id that the provider was told");
    assert_eq!((row.source.as_str(), row.total), ("exact", 640));

    let mut socket = alice.open().await?;
    let history = socket.ws.call("chat.history", json!({})).await?;
    assert!(
        history.to_string().contains("word120"),
        "it is there to be read"
    );
    Ok(())
}

/// The agents of an instance.
async fn agents(url: &str, password: &str) -> Result<Vec<String>> {
    let (mut admin, _) = operator(url, password, &["operator.admin", "operator.read"]).await?;
    let list = admin.call("agents.list", json!({})).await?;
    let agents = list["agents"].as_array().into_iter().flatten();
    let mut ids: Vec<_> = agents.map(|agent| agent["id"].to_string()).collect();
    ids.sort();
    Ok(ids)
}

async fn open_again(person: &Person) -> Result<Socket> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match person.open().await {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(200)).await,
            opened => return opened,
        }
    }
}

#[tokio::test]
async fn an_instance_that_restarts_sends_its_people_back_and_they_go_on() -> Result<()> {
    let mut kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let openclaw = dir.path().join("openclaw");
    fs::create_dir(&openclaw).expect("a directory");
    kit.openclaw_password = secret::random()?;
    let mut instance =
        OpenClaw::start(kit.install.clone(), &openclaw, &kit.openclaw_password).await?;
    kit.openclaw = instance.url();
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    let alice = Person::sign_in(&kit, "alice", &gateway).await?;
    let bob = Person::sign_in(&kit, "bob", &gateway).await?;
    let (mut hers, mut his) = (alice.open().await?, bob.open().await?);
    assert_eq!(hers.turn("before").await?.state, "final");
    let before = agents(&kit.openclaw, &kit.openclaw_password).await?;

    // In order.
    instance.stop().await?;
    assert_eq!(hers.ws.closed().await?.0, 1012);
    assert_eq!(his.ws.closed().await?.0, 1012);
    instance.start_again().await?;
    let mut hers = open_again(&alice).await?;
    let turn = hers.turn("afterwards").await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    assert_eq!(open_again(&bob).await?.turn("too").await?.state, "final");

    // As by a crash, in the middle of a run.
    let run = hers.start("long [[words=200]] [[chunk_delay=50]]").await?;
    let delta = |frame: &Value| {
        frame["payload"]["runId"] == run.as_str() && frame["payload"]["state"] == "delta"
    };
    hers.ws.find(delta).await?;
    instance.kill().await?;
    assert_eq!(hers.ws.closed().await?.0, 1012);
    instance.start_again().await?;
    let mut hers = open_again(&alice).await?;
    let turn = hers.turn("once more").await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    let after = agents(&kit.openclaw, &kit.openclaw_password).await?;
    assert_eq!(after, before, "no agent was made twice");
    let idle = |quota: &Value| standing(quota, "tokens")["reserved"] == 0;
    alice.wait_for("/api/quota", idle).await?;
    Ok(())
}

/// What people are at, and what became of it.
#[derive(Default)]
struct Traffic {
    stop: AtomicBool,
    started: AtomicU64,
    ended: AtomicU64,
}

/// One person who talks all the time, and comes back when the gateway does.
async fn talk(person: Person, mark: String, dice: Arc<Dice>, traffic: Arc<Traffic>) {
    while !traffic.stop.load(Relaxed) {
        let Ok(Ok(mut socket)) = timeout(Duration::from_secs(30), person.open()).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        socket.ws = socket.ws.with_limit(Duration::from_secs(20));
        while !traffic.stop.load(Relaxed) {
            let kind = dice.roll(4);
            let (input, output) = (dice.roll(5_000) + 1, dice.roll(500) + 1);
            let what = match kind {
                0 => r#"[[tool=ls {"path":"."}]]"#,
                1 | 2 => "[[words=60]] [[chunk_delay=20]]",
                _ => "",
            };
            let message = format!("{mark} [[in={input}]] [[out={output}]] {what}");
            let Ok(run_id) = socket.start(&message).await else {
                break;
            };
            traffic.started.fetch_add(1, Relaxed);
            if kind == 2 {
                sleep(Duration::from_millis(dice.roll(1_000))).await;
                let abort = json!({"sessionKey": "main", "runId": run_id});
                if socket.ws.request("chat.abort", abort).await.is_err() {
                    break;
                }
            }
            if socket.end_of(&run_id).await.is_err() {
                break;
            }
            traffic.ended.fetch_add(1, Relaxed);
        }
    }
}

/// Waits until the provider has had no call of ours for some seconds and answers none.
async fn quiet(kit: &Kit, mark: &str) -> Result<Vec<ModelCall>> {
    let mut last = usize::MAX;
    let mut since = Instant::now();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let calls = kit.provider().calls_about(mark).await?;
        if calls.len() != last {
            (last, since) = (calls.len(), Instant::now());
        }
        if since.elapsed() > Duration::from_secs(6) || Instant::now() > deadline {
            return Ok(calls);
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// The gateway is killed at random moments under traffic; afterwards ledger, counters and the provider's own log are
/// compared. `KILL_ROUNDS` (default 6) and `KILL_SEED` choose how often and when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_49_a_gateway_that_is_killed_at_any_moment_loses_and_invents_nothing() -> Result<()> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds: u64 = number("KILL_ROUNDS").unwrap_or(6);
    let dice = Arc::new(Dice::from_env("KILL_SEED"));
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    let mark = secret::mark()?;
    let traffic = Arc::new(Traffic::default());
    let (mut people, mut talking) = (Vec::new(), Vec::new());
    // People of its own: OpenClaw takes up what was interrupted even later, when another test counts.
    for name in ["killed-one", "killed-two", "killed-three"] {
        let person = Person::sign_in(&kit, name, &gateway).await?;
        assert_eq!(person.open().await?.turn(&mark).await?.state, "final");
        let (dice, traffic) = (Arc::clone(&dice), Arc::clone(&traffic));
        talking.push(tokio::spawn(talk(
            person.clone(),
            mark.clone(),
            dice,
            traffic,
        )));
        people.push((name, person));
    }
    let before = agents(&kit.openclaw, &kit.openclaw_password).await?;
    for _ in 0..rounds {
        sleep(Duration::from_millis(dice.roll(4_000))).await;
        gateway.kill9().await?;
        gateway.start_again().await?;
    }
    sleep(Duration::from_secs(2)).await;
    traffic.stop.store(true, Relaxed);
    for task in talking {
        let _ = task.await;
    }
    let calls = quiet(&kit, &mark).await?;

    let mut ledger = HashMap::new();
    let (mut tokens_off, mut estimated, mut never_there, mut runs) = (0_i64, 0_u64, 0_u64, 0_u64);
    for (name, person) in &people {
        let idle = |quota: &Value| standing(quota, "tokens")["reserved"] == 0;
        let quota = person.wait_for("/api/quota", idle).await?;
        let rows = rows(dir.path(), name);
        let (of_runs, of_calls): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|(_, row)| row.operation == "run");
        let tokens: u64 = of_calls.iter().map(|(_, row)| row.total).sum();
        assert_eq!(
            standing(&quota, "tokens")["used"],
            tokens,
            "{name}: counters"
        );
        assert_eq!(
            standing(&quota, "calls")["used"],
            of_runs.len(),
            "{name}: runs"
        );
        assert!(of_calls.iter().all(|(_, row)| row.settled == 1), "{name}");
        runs += of_runs.len() as u64;
        ledger.extend(of_calls);
    }
    // OpenClaw also asks models for things of its own after an interruption, in words that are not ours.
    let in_ledger = ledger.len();
    let ids: HashSet<String> = ledger.keys().cloned().collect();
    let of_ours = |call: &ModelCall| {
        call.client_request_id
            .as_ref()
            .is_some_and(|id| ids.contains(id))
    };
    let mut calls = calls;
    let unmarked = kit.provider().calls().await?.into_iter();
    calls.extend(unmarked.filter(|call| of_ours(call) && !call.last_user.contains(&mark)));
    for call in &calls {
        let id = call.client_request_id.as_deref().unwrap_or_default();
        let row = ledger.remove(id);
        let row = row.unwrap_or_else(|| panic!("a call that the ledger does not know: {call:?}"));
        let billed = call.prompt_tokens + call.completion_tokens;
        if row.source == "exact" {
            let fresh = call.prompt_tokens - call.cached_tokens;
            assert_eq!(
                (row.input, row.cached),
                (fresh, call.cached_tokens),
                "{call:?}"
            );
            assert_eq!(row.output, call.completion_tokens, "{call:?} {row:?}");
            let nano_usd =
                fresh * INPUT + call.cached_tokens * CACHE_READ + call.completion_tokens * OUTPUT;
            assert_eq!(row.nano_usd, nano_usd, "{call:?}");
        } else {
            estimated += 1;
            tokens_off += i64::try_from(row.total).unwrap_or(i64::MAX)
                - i64::try_from(billed).unwrap_or(i64::MAX);
        }
    }
    for (id, row) in &ledger {
        assert!(
            row.source == "estimated" || matches!(row.outcome.as_str(), "failed" | "refused"),
            "{id} was never at the provider: {row:?}"
        );
        never_there += 1;
    }
    assert_eq!(agents(&kit.openclaw, &kit.openclaw_password).await?, before);
    let started = traffic.started.load(Relaxed) + 3;
    assert!(
        runs >= started,
        "{runs} runs recorded, {started} were started"
    );
    println!("\n{rounds} rounds of kill -9, seed {}", dice.seed());
    println!(
        "  runs started {started}, ended {}, recorded {runs}",
        traffic.ended.load(Relaxed)
    );
    println!(
        "  model calls in the provider's log {}, in the ledger {}",
        calls.len(),
        in_ledger
    );
    println!(
        "  exact {}, estimated {estimated} ({tokens_off:+} tokens)",
        calls.len() as u64 - estimated
    );
    println!("  begun and never at the provider {never_there}");
    Ok(())
}
