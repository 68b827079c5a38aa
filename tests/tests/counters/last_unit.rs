//! A thousand ask for the last unit at once.

use std::time::Instant;

use ::http::StatusCode;
use gateway_tests::{error::Result, kit::Kit, redis::Redis, secret};
use tokio::task::JoinSet;

use crate::fleet::Fleet;

const PARALLEL: usize = 1_000;

const ROUNDS: usize = 10;

/// What each person may use in a day.
const TOKENS: u64 = 1_000;

/// Uses up what somebody has, and takes long enough that all others ask meanwhile.
const ALL: &str = "[[in=900]] [[out=100]] [[sleep=500]]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_48_three_gateways_that_share_redis_admit_one_of_a_thousand() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let redis = Redis::start(dir.path()).await?;
    let fleet = Fleet::start(&kit, TOKENS, &kit.database().await?, Some(&redis.url()), "").await?;
    one_of_a_thousand(&kit, &fleet, "Redis").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_48_three_gateways_that_share_postgres_admit_one_of_a_thousand() -> Result<()> {
    let kit = Kit::from_env()?;
    let fleet = Fleet::start(&kit, TOKENS, &kit.database().await?, None, "").await?;
    one_of_a_thousand(&kit, &fleet, "Postgres").await
}

async fn one_of_a_thousand(kit: &Kit, fleet: &Fleet, store: &str) -> Result<()> {
    let mark = secret::mark()?;
    for round in 1..=ROUNDS {
        // Nobody has counted anything of this person before.
        let name = format!("{mark}-{round}");
        fleet.person(&name).await;
        let begun = Instant::now();
        let mut calls = JoinSet::new();
        for n in 0..PARALLEL {
            let caller = fleet.caller(n % 3, &name);
            calls.spawn(async move { caller.decided(ALL, TOKENS).await });
        }
        let statuses = calls.join_all().await;
        let of = |status| statuses.iter().filter(|found| **found == status).count();
        let (admitted, refused) = (of(StatusCode::OK), of(StatusCode::TOO_MANY_REQUESTS));
        println!(
            "{store}, three gateways, round {round}: {admitted} of {PARALLEL} admitted in {:?}",
            begun.elapsed()
        );
        assert_eq!((admitted, refused), (1, PARALLEL - 1));
        let sent = kit.provider().calls_about(&name).await?;
        assert_eq!(sent.len(), 1, "{sent:?}");
    }

    // And a thousand whom nobody knows, each at all gateways at once.
    let names: Vec<_> = (0..PARALLEL).map(|n| format!("{mark}-new-{n}")).collect();
    for name in &names {
        fleet.person(name).await;
    }
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for name in &names {
        for gateway in 0..3 {
            let (caller, name) = (fleet.caller(gateway, name), name.clone());
            calls.spawn(async move { (name, caller.decided(ALL, TOKENS).await) });
        }
    }
    let statuses = calls.join_all().await;
    let mut admitted: Vec<_> = statuses
        .iter()
        .filter(|(_, status)| *status == StatusCode::OK)
        .map(|(name, _)| name)
        .collect();
    admitted.sort();
    let all = admitted.len();
    admitted.dedup();
    println!(
        "{store}, three gateways: {all} of {} first requests of {PARALLEL} people admitted in {:?}",
        statuses.len(),
        begun.elapsed()
    );
    assert_eq!((all, admitted.len()), (PARALLEL, PARALLEL), "each once");
    Ok(())
}
