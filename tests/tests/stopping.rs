//! A gateway that is told to stop: it says so, lets people go one after the other, loses nothing and ends well.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use gateway_tests::{
    error::{Error, Result},
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    ledger::{record_of, settled},
    person::{Person, Socket, send_params},
    secret,
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// People, and how many sockets each of them has: forty in all.
const PEOPLE: usize = 4;
const SOCKETS: usize = 10;

/// Forty sockets go within a second.
const AT_LEAST: Duration = Duration::from_millis(400);

/// `shutdown_timeout` of the gateways here.
const LIMIT: Duration = Duration::from_secs(10);

/// Much less than that.
const AT_ONCE: Duration = Duration::from_secs(6);

const PATIENCE: Duration = Duration::from_secs(60);

/// What `/readyz` says, at the public listener and at that of operators, once it says that the gateway is about to end.
async fn says_that_it_ends(gateway: &Gateway) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for url in [gateway.url("/readyz"), gateway.admin_url("/readyz")] {
        loop {
            let answer = http::get(&url, None).await?;
            if answer.status == 503 {
                let failing = answer.json()?["failing"].clone();
                let reasons = failing.as_array().into_iter().flatten();
                assert_eq!(
                    reasons.filter(|why| **why == "draining").count(),
                    1,
                    "{failing}"
                );
                assert_eq!(answer.header("connection"), Some("close"));
                break;
            }
            assert!(Instant::now() < deadline, "{url} says {}", answer.status);
            sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Somebody's message on its way when the gateway is told to stop: its run if it was answered, and the close code.
async fn sent(mut socket: Socket, id: String) -> Result<(Option<String>, u16)> {
    let answered = match socket.ws.response(&id).await {
        Ok(answer) => {
            assert_eq!(answer["ok"], true, "{answer}");
            answer["payload"]["runId"].as_str().map(str::to_owned)
        }
        Err(Error::Closed { code, .. }) => return Ok((None, code)),
        Err(error) => return Err(error),
    };
    Ok((answered, socket.ws.closed().await?.0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_sockets_go_one_after_the_other_and_the_run_that_was_just_begun_is_one() -> Result<()>
{
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let mut config = Config::new(&kit, dir)?;
    // As long as by default: a machine that has much to do prepares runs for seconds.
    let shorter = "shutdown_timeout = \"10s\"\n";
    assert!(config.text.contains(shorter));
    config.text = config.text.replacen(shorter, "", 1);
    let mut gateway = Gateway::start(config, dir).await?;
    let mark = secret::mark()?;
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        let name = format!("stop-{n}-{mark}");
        let person = Person::sign_in(&kit, &name, &gateway).await?;
        // The first run of an agent is prepared for long.
        let mut first = person.open().await?;
        let turn = first.turn(&format!("{name} hello")).await?;
        assert_eq!(turn.state, "final", "{}", turn.text);
        people.push((name, person, first));
    }
    let mut listeners = Vec::new();
    let closed = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for (name, person, first) in people {
        for _ in 1..SOCKETS {
            let mut socket = person.open().await?;
            let closed = Arc::clone(&closed);
            listeners.push(tokio::spawn(async move {
                let (code, _) = socket.ws.closed().await?;
                closed.fetch_add(1, SeqCst);
                Ok::<_, Error>((code, Instant::now()))
            }));
        }
        writers.push((name, person, first));
    }

    // Just sent: nobody waits for the answer before the signal.
    let mut on_their_way = Vec::new();
    for (name, person, mut socket) in writers {
        let params = send_params(&format!("{name} [[words=20]] [[chunk_delay=50]]"))?;
        let id = socket.ws.start("chat.send", params.clone()).await?;
        on_their_way.push((name, person, params, tokio::spawn(sent(socket, id))));
    }
    gateway.signal(Signal::TERM);
    says_that_it_ends(&gateway).await?;
    let gone = closed.load(SeqCst);
    assert!(gone < listeners.len(), "sockets are still there: {gone}");
    let late = on_their_way[0].1.open().await;
    let is_refused = matches!(&late, Err(Error::Refused(status)) if *status == 503);
    // Or nobody listens any more.
    let is_gone = matches!(&late, Err(Error::Connection { .. }));
    assert!(is_refused || is_gone, "{late:?}");

    let mut times = Vec::new();
    for listener in listeners {
        let (code, at) = listener.await.expect("it has not panicked")?;
        assert_eq!(code, 1012, "clients come again on it");
        times.push(at);
    }
    times.sort_unstable();
    let took = times[times.len() - 1] - times[0];
    assert!(took >= AT_LEAST, "all at once: {took:?}");
    let status = gateway.ended().await?;
    assert!(status.success(), "{status}");
    let log = gateway.log()?;
    assert!(log.contains("ledger closed"), "{log}");
    assert!(!log.contains("did not end in time"), "{log}");

    gateway.start_again().await?;
    for (name, person, params, sent) in on_their_way {
        let (run, code) = sent.await.expect("it has not panicked")?;
        assert_eq!(code, 1012, "{name}");
        // As OpenClaw's client: what was not answered is sent again by the same key.
        let run = match run {
            Some(run) => run,
            None => {
                let mut socket = person.open().await?;
                let answer = socket.ws.call("chat.send", params.clone()).await?;
                let run = answer["runId"].as_str().unwrap_or_default().to_owned();
                socket.end_of(&run).await?;
                run
            }
        };
        balance(&kit, dir, &name, &person, &run).await?;
    }
    Ok(())
}

/// Two runs and two model calls, each recorded once and whole, and counted.
async fn balance(kit: &Kit, dir: &Path, name: &str, person: &Person, run: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let calls = loop {
        let calls = kit.provider().calls_about(name).await?;
        if calls.len() == 2 && calls.iter().all(|call| call.finished) {
            break calls;
        }
        assert!(Instant::now() < deadline, "{name}: {calls:#?}");
        sleep(Duration::from_millis(50)).await;
    };
    let records = settled(dir, name, calls.len()).await?;
    for call in &calls {
        let record = record_of(call, &records).expect("each call is recorded");
        let mut billed = call.tokens();
        billed.reasoning = record.tokens.reasoning;
        assert_eq!(record.tokens, billed, "{name}");
        let how = (&*record.source, &*record.outcome);
        assert_eq!(how, ("exact", "complete"), "{name}: {record:?}");
    }
    let runs = records.iter().filter(|record| record.operation == "run");
    let runs: Vec<_> = runs.filter_map(|record| record.run_id.as_deref()).collect();
    assert_eq!(runs.len(), 2, "{name}: {records:#?}");
    assert_eq!(runs.iter().filter(|own| **own == run).count(), 1, "{name}");
    let counted = |quota: &Value| {
        let limits = quota["limits"].as_array().into_iter().flatten();
        let mut calls = limits.filter(|limit| limit["dimension"] == "calls");
        calls.all(|limit| limit["used"] == 2 && limit["reserved"] == 0)
    };
    person.wait_for("/api/quota", counted).await.map(drop)
}

#[tokio::test]
async fn who_tells_it_twice_is_not_kept_waiting() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let mut gateway = Gateway::start(Config::new(&kit, dir)?, dir).await?;
    let name = format!("twice-{}", secret::mark()?);
    let (mut socket, run) = reply_of_minutes(&kit, &name, &gateway).await?;

    gateway.signal(Signal::TERM);
    assert_eq!(socket.ws.closed().await?.0, 1012);
    let told = Instant::now();
    gateway.signal(Signal::INT);
    let status = gateway.ended().await?;
    let took = told.elapsed();
    assert!(status.success(), "{status}");
    assert!(took < AT_ONCE, "{took:?}");
    let log = gateway.log()?;
    assert!(log.contains("ledger closed"), "{log}");
    let records = settled_at_the_next_start(&mut gateway, dir, &name).await?;
    assert_eq!(records, [("model_call", None), ("run", Some(run))].map(own));
    Ok(())
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off_and_recorded() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let mut gateway = Gateway::start(Config::new(&kit, dir)?, dir).await?;
    let name = format!("late-{}", secret::mark()?);
    let (mut socket, run) = reply_of_minutes(&kit, &name, &gateway).await?;

    let told = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(socket.ws.closed().await?.0, 1012);
    let status = gateway.ended().await?;
    let took = told.elapsed();
    assert!(status.success(), "{status}");
    assert!((LIMIT..LIMIT + AT_ONCE).contains(&took), "{took:?}");
    let log = gateway.log()?;
    for said in ["some calls did not end in time", "ledger closed"] {
        assert!(log.contains(said), "{log}");
    }
    let records = settled_at_the_next_start(&mut gateway, dir, &name).await?;
    assert_eq!(records, [("model_call", None), ("run", Some(run))].map(own));
    Ok(())
}

/// Somebody's socket, and the run of a reply that has begun and takes minutes.
async fn reply_of_minutes(kit: &Kit, name: &str, gateway: &Gateway) -> Result<(Socket, String)> {
    let person = Person::sign_in(kit, name, gateway).await?;
    let mut socket = person.open().await?;
    let long = format!("{name} [[words=2000]] [[chunk_delay=50]] [[in=500]] [[out=2000]]");
    let run = socket.start(&long).await?;
    let begun = |frame: &Value| frame["event"] == "chat" && frame["payload"]["state"] == "delta";
    socket.ws.find(begun).await?;
    Ok((socket, run))
}

fn own((operation, run): (&str, Option<String>)) -> (String, Option<String>) {
    (operation.to_owned(), run)
}

/// What there is of somebody when the gateway is there again: the operation, and of a run its id.
async fn settled_at_the_next_start(
    gateway: &mut Gateway,
    dir: &Path,
    name: &str,
) -> Result<Vec<(String, Option<String>)>> {
    gateway.start_again().await?;
    let records = settled(dir, name, 1).await?;
    let mut records: Vec<_> = records
        .into_iter()
        .map(|record| {
            let run = record.run_id.filter(|_| record.operation == "run");
            (record.operation, run)
        })
        .collect();
    records.sort();
    Ok(records)
}
