//! Servers that are slow, gone, back, full, or of another kind by now.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_quota::{
    Amounts, Charge, Dimension, Granted, Limit, Limits, QuotaStore as _, RedisStore, ReserveError,
    Settled, Window,
};

use crate::support::{Server, client, run};

const BOUND: Duration = Duration::from_millis(250);

const SLACK: Duration = Duration::from_millis(50);

fn plan() -> Limits {
    Limits::new([Limit::at_most(Dimension::Calls, Window::Month, 100)]).unwrap()
}

async fn connect(server: &Server) -> RedisStore {
    let store = RedisStore::builder(plan()).connect(&server.url()).await;
    store.unwrap()
}

async fn call(store: &RedisStore) -> Result<Granted, ReserveError> {
    let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
    store.reserve(&charge).await
}

/// Decides for a while, eight at a time, with what was admitted and how long the slowest took.
async fn call_for(store: &RedisStore, length: Duration) -> (usize, Duration) {
    let end = Instant::now() + length;
    let tasks = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut admitted, mut slowest) = (0, Duration::ZERO);
            while Instant::now() < end {
                let asked = Instant::now();
                match call(&store).await {
                    Ok(_) => admitted += 1,
                    Err(ReserveError::Unavailable(_)) => {}
                    Err(error) => panic!("{error:?}"),
                }
                slowest = slowest.max(asked.elapsed());
                sleep(Duration::from_millis(5)).await;
            }
            (admitted, slowest)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut all = (0, Duration::ZERO);
    for task in tasks {
        let (admitted, slowest) = task.await.unwrap();
        all = (all.0 + admitted, all.1.max(slowest));
    }
    all
}

/// Until it decides again.
async fn recover(store: &RedisStore) -> (Granted, Duration) {
    let begun = Instant::now();
    loop {
        match call(store).await {
            Ok(granted) => return (granted, begun.elapsed()),
            Err(error) if begun.elapsed() > Duration::from_secs(10) => panic!("{error:?}"),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn stands(store: &RedisStore) -> (u64, u64) {
    let standing = store.standings(&"alice".into()).await.unwrap()[0];
    (standing.used(), standing.reserved())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_delays_nobody_and_holds_nothing_for_those_who_have_left() {
    let Some(server) = Server::start().await else {
        return;
    };
    let store = connect(&server).await;
    let granted = call(&store).await.unwrap();

    server.signal("STOP");
    let (admitted, slowest) = call_for(&store, Duration::from_secs(5)).await;
    println!("stopped: the slowest decision took {slowest:?}");
    assert_eq!(admitted, 0);
    assert!(slowest <= BOUND + SLACK, "{slowest:?}");
    server.signal("CONT");
    let (again, took) = recover(&store).await;
    println!("goes on after {took:?}");
    assert_eq!(stands(&store).await, (0, 2), "nobody else holds anything");
    let one = Amounts::new().calls(1);
    for ticket in [granted.ticket(), again.ticket()] {
        let settled = store.settle(ticket, one).await.unwrap();
        assert!(matches!(settled, Settled::Applied { .. }));
    }
    assert_eq!(stands(&store).await, (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_with_its_data_goes_on_with_the_same_store() {
    let Some(mut server) = Server::start_lasting().await else {
        return;
    };
    let store = connect(&server).await;
    let granted = call(&store).await.unwrap();

    server.kill();
    let (admitted, slowest) = call_for(&store, Duration::from_secs(2)).await;
    println!("gone: the slowest decision took {slowest:?}");
    assert_eq!(admitted, 0);
    assert!(slowest <= BOUND + SLACK, "{slowest:?}");
    let asked = Instant::now();
    call(&store).await.unwrap_err();
    assert!(
        asked.elapsed() < SLACK,
        "fails at once: {:?}",
        asked.elapsed()
    );
    server.restart().await;
    let (_, took) = recover(&store).await;
    println!("goes on after {took:?}");
    assert!(!store.lost());
    let one = Amounts::new().calls(1);
    let settled = store.settle(granted.ticket(), one).await.unwrap();
    assert_eq!(
        settled,
        Settled::Applied {
            overshoot: Amounts::new()
        }
    );
    assert_eq!(stands(&store).await, (1, 1));
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_closed_until_it_is_reseeded() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let store = connect(&server).await;
    call(&store).await.unwrap();
    server.kill();
    server.restart().await;

    while !store.lost() {
        call(&store).await.unwrap_err();
        sleep(Duration::from_millis(20)).await;
    }
    let error = std::error::Error::source(&call(&store).await.unwrap_err())
        .unwrap()
        .to_string();
    assert!(error.contains("lost"), "{error}");
    let reseeding = store.reseed("one", &[]).await.unwrap();
    reseeding.finish().await.unwrap();
    call(&store).await.unwrap();
    assert!(!store.lost());
}

#[tokio::test]
async fn a_server_that_becomes_a_replica_or_is_full_decides_nothing_until_it_is_not() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (store, client) = (connect(&server).await, client(&server.url()).await);
    call(&store).await.unwrap();
    for (begin, end) in [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    ] {
        run::<String>(&client, begin).await;
        for _ in 0..3 {
            let asked = Instant::now();
            call(&store).await.unwrap_err();
            assert!(asked.elapsed() <= BOUND + SLACK, "{:?}", asked.elapsed());
        }
        run::<String>(&client, end).await;
        recover(&store).await;
    }
    assert_eq!(stands(&store).await, (0, 3));
}

#[tokio::test]
async fn a_server_that_throws_keys_away_is_refused() {
    let Some(server) = Server::start().await else {
        return;
    };
    assert_eq!(connect(&server).await.eviction_policy(), Some("noeviction"));
    let client = client(&server.url()).await;
    run::<String>(&client, "CONFIG SET maxmemory-policy allkeys-lru").await;

    let builder = RedisStore::builder(plan());
    let refused = builder.clone().connect(&server.url()).await.unwrap_err();
    let refused = std::error::Error::source(&refused).unwrap().to_string();
    assert!(refused.contains("allkeys-lru"), "{refused}");
    let store = builder.allow_eviction().connect(&server.url()).await;
    assert_eq!(store.unwrap().eviction_policy(), Some("allkeys-lru"));
}

#[tokio::test]
async fn what_is_abandoned_is_given_back() {
    let Some(server) = Server::start().await else {
        return;
    };
    let store = connect(&server).await;
    let granted = call(&store).await.unwrap();
    store.abandon(granted.ticket());
    for _ in 0..100 {
        if stands(&store).await == (0, 0) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still held");
}
