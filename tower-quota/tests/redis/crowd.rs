//! Many at once.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tower_quota::{
    Charge, Demand, Dimension, Limit, Limits, QuotaStore as _, RedisStore, ReserveError, Subject,
    Terms, Window,
};

use crate::support::{Server, builder, client, prefix, run, url};

const ROUNDS: usize = 10;

fn calls_a_day(limit: u64) -> Limits {
    Limits::new([Limit::at_most(Dimension::Calls, Window::Day, limit)]).unwrap()
}

/// Three stores before one server, as three processes have them.
async fn three(url: &str, limits: Limits) -> Vec<RedisStore> {
    let prefix = prefix();
    let mut stores = Vec::new();
    for _ in 0..3 {
        let builder = builder(limits.clone()).prefix(&prefix);
        stores.push(builder.connect(url).await.unwrap());
    }
    stores
}

/// How many of a thousand at once are admitted, all others being refused.
async fn admitted(stores: &[RedisStore], charge: impl Fn(usize) -> Charge) -> usize {
    let start = Arc::new(tokio::sync::Barrier::new(1_000));
    let tasks = (0..1_000).map(|n| {
        let (store, charge) = (stores[n % stores.len()].clone(), charge(n));
        let start = Arc::clone(&start);
        tokio::spawn(async move {
            start.wait().await;
            match store.reserve(&charge).await {
                Ok(_) => 1,
                Err(ReserveError::Denied(_)) => 0,
                Err(error) => panic!("{error:?}"),
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    admitted
}

#[tokio::test]
async fn d5_49_what_many_dead_holders_held_refuses_nobody() {
    let Some(url) = url() else { return };
    let lease = Duration::from_millis(300);
    let store = builder(calls_a_day(300)).lease(lease).prefix(&prefix());
    let store = store.connect(&url).await.unwrap();
    let call = Charge::new("alice").exactly(Dimension::Calls, 1);
    let held = (0..300).map(|_| store.reserve(&call));
    for held in held.collect::<JoinSet<_>>().join_all().await {
        held.unwrap();
    }
    assert!(matches!(
        store.reserve(&call).await,
        Err(ReserveError::Denied(_))
    ));
    tokio::time::sleep(2 * lease).await;
    store.reserve(&call).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_48_of_a_thousand_at_once_one_gets_the_last_unit() {
    let Some(url) = url() else { return };
    let (stores, client) = (three(&url, calls_a_day(1)).await, client(&url).await);
    for round in 0..ROUNDS {
        let flush = async {
            // As it pleases: before, between or after.
            tokio::time::sleep(Duration::from_millis(5)).await;
            if round % 2 == 1 {
                run::<String>(&client, "SCRIPT FLUSH").await;
            }
        };
        let charge = Charge::new(format!("user {round}")).exactly(Dimension::Calls, 1);
        let (admitted, ()) = tokio::join!(admitted(&stores, |_| charge.clone()), flush);
        println!("one user, round {round}: {admitted} of 1000");
        assert_eq!(admitted, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_48_of_a_thousand_unknown_members_one_gets_the_last_unit_of_their_parent() {
    let Some(url) = url() else { return };
    let stores = three(&url, calls_a_day(5)).await;
    for round in 0..ROUNDS {
        let org = format!("org {round}");
        let four = Charge::new(&*org).exactly(Dimension::Calls, 4);
        stores[0].reserve(&four).await.unwrap();
        let member = |n| Subject::new(format!("never seen {n}")).under(&*org);
        let charge = |n| Charge::new(member(n)).exactly(Dimension::Calls, 1);
        let admitted = admitted(&stores, charge).await;
        println!("unknown users, round {round}: {admitted} of 1000");
        assert_eq!(admitted, 1);
        let standing = stores[1].standings(&org.into()).await.unwrap()[0];
        assert_eq!((standing.used(), standing.reserved()), (0, 5));
    }
}

#[tokio::test]
async fn a_decision_is_one_round_trip() {
    let Some(server) = Server::start().await else {
        return;
    };
    let prefix = prefix();
    let builder = builder(calls_a_day(1_000)).prefix(&prefix);
    let store = builder.connect(&server.url()).await.unwrap();
    let client = client(&server.url()).await;
    let alice = Subject::new("alice").under("team").under("org");
    let charge = Charge::new(alice.clone()).demand(Dimension::Calls, Demand::exactly(1));
    let once = async || {
        let settled = store.reserve(&charge).await.unwrap();
        store.renew(settled.ticket()).await.unwrap();
        store
            .settle(settled.ticket(), settled.held())
            .await
            .unwrap();
        let released = store.reserve(&charge).await.unwrap();
        store.release(released.ticket()).await.unwrap();
        let refused = charge.clone().exactly(Dimension::Calls, 2_000);
        store.reserve(&refused).await.unwrap_err();
        store.standings(&alice).await.unwrap();
    };
    // The server learns the scripts.
    once().await;
    run::<String>(&client, "CONFIG RESETSTAT").await;
    for _ in 0..10 {
        once().await;
    }

    let stats: String = run(&client, "INFO commandstats").await;
    println!("{stats}");
    assert_eq!(
        calls(&stats, "evalsha"),
        10 * 7,
        "seven decisions, ten times"
    );
    assert_eq!(
        calls(&stats, "time"),
        10 * 7,
        "one look at the clock in each"
    );
    for others in ["eval", "script|load", "ping", "multi", "watch"] {
        assert_eq!(calls(&stats, others), 0, "{others}");
    }

    // Where another has changed terms there is one more, once.
    let other = RedisStore::builder(calls_a_day(1)).prefix(&prefix);
    let other = other.connect(&server.url()).await.unwrap();
    run::<String>(&client, "CONFIG RESETSTAT").await;
    let more = Terms::default().limits(calls_a_day(2_000));
    assert!(other.set_terms(&alice, more).await.unwrap());
    for _ in 0..10 {
        store.reserve(&charge).await.unwrap();
    }
    let stats: String = run(&client, "INFO commandstats").await;
    assert_eq!(calls(&stats, "evalsha"), 1 + 10 + 1);
}

/// How often the server did this.
fn calls(stats: &str, command: &str) -> u64 {
    let line = stats.lines().find_map(|line| {
        let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        (name == command).then_some(numbers)
    });
    let number = line.and_then(|line| line.split(',').next());
    number.map_or(0, |number| number.parse().unwrap())
}
