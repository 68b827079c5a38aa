//! Records that are shipped to a Postgres of the test's own, which hangs, is killed and is stopped meanwhile.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use gateway_tests::{dice::Dice, error::Result, postgres::Postgres};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};
use tower_usage::{
    NanoUsd, Operation, Place, UsageRecord,
    postgres::{PostgresLedger, Shipper},
    sqlite::{LedgerOptions, SqliteLedger},
};

/// The longest wait for records that have waited.
const CATCHES_UP: Duration = Duration::from_secs(90);

/// What happens to Postgres, and to who ships.
#[derive(Clone, Copy, Debug)]
enum Outage {
    Hangs,
    Killed,
    Stopped,
    /// Not it, but who ships is ended in the middle, and begins anew.
    ShipperEnds,
}

/// How long Postgres is away: `OUTAGE_SECS` (default 5).
fn outage() -> Duration {
    let secs = env::var("OUTAGE_SECS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(secs.unwrap_or(5))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_52_d5_55_a_postgres_that_is_away_delays_records_and_loses_and_doubles_none()
-> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut postgres = Postgres::start(dir.path()).await?;
    let path = dir.path().join("ledger.db");
    let ledger = SqliteLedger::open(path, LedgerOptions::new()).expect("a ledger");
    let to = PostgresLedger::new(&postgres.url()).expect("its URL");
    let to = to.timeout(Duration::from_secs(3));
    let mut shipper = Shipper::start(&ledger, &to).await.expect("it ships");
    timeout(CATCHES_UP, shipper.flush())
        .await
        .expect("in time")
        .expect("shipped");

    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(Arc::clone(&ledger), Arc::clone(&stop)));
    for outage in [
        Outage::Hangs,
        Outage::Killed,
        Outage::Stopped,
        Outage::ShipperEnds,
    ] {
        let away = self::outage();
        let mut waited = 0;
        match outage {
            Outage::Hangs => {
                postgres.signal(Signal::STOP)?;
                waited = watch(&ledger, &shipper, away).await;
                postgres.signal(Signal::CONT)?;
            }
            Outage::Killed => {
                postgres.kill().await?;
                waited = watch(&ledger, &shipper, away).await;
                postgres.start_again().await?;
            }
            Outage::Stopped => {
                postgres.stop().await?;
                waited = watch(&ledger, &shipper, away).await;
                postgres.start_again().await?;
            }
            Outage::ShipperEnds => {
                for _ in 0..20 {
                    sleep(Duration::from_millis(100)).await;
                    shipper.stop().await;
                    shipper = Shipper::start(&ledger, &to).await.expect("it ships");
                    // At once, so that it is ended in the middle of it.
                    let _ = timeout(Duration::from_millis(15), shipper.flush()).await;
                }
            }
        }
        let back = Instant::now();
        ledger.flush().await.expect("written");
        let shipped = timeout(CATCHES_UP, shipper.flush()).await;
        shipped.expect("it catches up").expect("shipped");
        println!(
            "{outage:?}: {waited} records waited, shipped {:.1?} after its end",
            back.elapsed()
        );
    }
    stop.store(true, Relaxed);
    let written = writing.await.expect("all written");
    ledger.flush().await.expect("written");
    let shipped = timeout(CATCHES_UP, shipper.flush()).await;
    shipped.expect("it catches up").expect("shipped");

    let (from, until) = (at(0), at(1 << 35));
    let here = ledger.sum(None::<&str>, from, until).expect("a sum");
    let there = to.sum(None::<&str>, from, until).await.expect("a sum");
    assert_eq!(there, here);
    assert_eq!((here.records, here.total_tokens), written);
    assert_eq!(shipper.backlog().expect("a backlog").records, 0);
    println!(
        "{} records, {} tokens in both",
        here.records, here.total_tokens
    );
    Ok(())
}

/// While it is away: calls go on, and readiness may say so. Answers how many records wait in the end.
async fn watch(ledger: &SqliteLedger, shipper: &Shipper, away: Duration) -> u64 {
    let until = Instant::now() + away;
    while Instant::now() < until {
        let begun = Instant::now();
        ledger.flush().await.expect("written");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "the ledger waits: {took:?}");
        sleep(Duration::from_millis(100)).await;
    }
    assert!(!shipper.healthy(), "it says so");
    shipper.backlog().expect("a backlog").records
}

/// Records some calls all the time; answers how many, and their tokens.
async fn write(ledger: Arc<SqliteLedger>, stop: Arc<AtomicBool>) -> (u64, u64) {
    let dice = Dice::from_env("KILL_SEED");
    let (mut count, mut all) = (0, 0);
    while !stop.load(Relaxed) {
        for _ in 0..20 {
            let user = format!("user-{}", dice.roll(50));
            let mut record = UsageRecord::new(user.as_str().into(), Operation::ModelCall);
            record.admitted_at = at(1_760_000_000 + count);
            record.ended_at = at(1_760_000_001 + count);
            let tokens = dice.roll(1_000);
            record.tokens.input = Some(tokens);
            record.cost = Some(NanoUsd::from_nanos(tokens.cast_signed() * 10));
            let place = Place::take(ledger.clone()).expect("there is room");
            place.record(record);
            (count, all) = (count + 1, all + tokens);
        }
        sleep(Duration::from_millis(20)).await;
    }
    (count, all)
}

fn at(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}
