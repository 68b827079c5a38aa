//! What a server that goes away, hangs or is busy does to the store.

use std::{error::Error, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tower_quota::{Charge, PostgresStore, QuotaStore, ReserveError};

use crate::{
    support::{Database, MANY, ONE_A_DAY, call, client, connect, stands},
    wire::{State, Wire},
};

const BOUND: Duration = Duration::from_millis(250);

/// What a machine that does other things, too, may add.
const GRACE: Duration = Duration::from_millis(50);

/// Asks for reservations of four users at once; how many there were, and the longest that one took, without what this
/// machine was late by.
async fn ask(store: &PostgresStore, times: usize) -> (usize, Duration) {
    ask_for(4, store, times).await
}

/// Asks until all of four are answered: making a connection takes long without optimisation, for its password.
async fn recover(store: &PostgresStore) -> Duration {
    let begun = Instant::now();
    while ask(store, 4).await.0 < 4 {
        assert!(begun.elapsed() < Duration::from_secs(5), "no recovery");
    }
    begun.elapsed()
}

async fn ask_for(users: usize, store: &PostgresStore, times: usize) -> (usize, Duration) {
    let mut asking = JoinSet::new();
    for n in 0..times {
        let store = store.clone();
        asking.spawn(async move {
            let answer = store.reserve(&call(format!("user {}", n % users))).await;
            if let Err(ReserveError::Denied(denied)) = &answer {
                panic!("{denied}");
            }
            usize::from(answer.is_ok())
        });
    }
    let (answers, took) = timed(asking.join_all()).await;
    (answers.into_iter().sum(), took)
}

/// How long it takes, without what this machine is late by at the time.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    let alarm = tokio::spawn(async move {
        tokio::time::sleep(BOUND).await;
        begun.elapsed() - BOUND
    });
    let done = work.await;
    let took = begun.elapsed();
    if took < BOUND {
        return (done, took);
    }
    let late = alarm.await.unwrap();
    (done, took.saturating_sub(late).max(BOUND))
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_ends_fail_nothing() {
    let Some(database) = Database::new().await else {
        return;
    };
    // Without optimisation a password takes long to be proved, so there is more time.
    let store = database.store(MANY).await.timeout(Duration::from_secs(5));
    for _ in 0..3 {
        assert_eq!(ask(&store, 32).await.0, 32);
        let ended = database.terminate_others().await;
        assert!(ended > 1, "there were {ended}");
    }
    assert_eq!(ask(&store, 32).await.0, 32);
    database.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_in_the_middle_is_asked_again_and_held_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let store = database.store(MANY).await.timeout(Duration::from_secs(5));
    let mut admitted = 0;
    for _ in 0..5 {
        let (answers, ended) = tokio::join!(ask(&store, 200), async {
            let mut ended = 0;
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                ended += database.terminate_others().await;
            }
            ended
        });
        println!("{} of 200 answered, {ended} connections ended", answers.0);
        admitted += u64::try_from(answers.0).unwrap();
    }
    assert!(admitted >= 900, "{admitted}");
    let mut held = 0;
    for n in 0..4 {
        held += stands(&store, format!("user {n}")).await.1;
    }
    // Those that were lost more than three times may be held by nobody.
    assert!((admitted..=1_000).contains(&held), "{held} for {admitted}");
    database.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_silent_or_gone_is_waited_for_no_longer_than_the_bound() {
    let Some(database) = Database::new().await else {
        return;
    };
    let wire = Wire::to(&database).await;
    let store = connect(&database.url_by(wire.port), MANY).await;
    recover(&store).await;
    for state in [State::Silent, State::Cut] {
        wire.set(state);
        let opened = wire.opened();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            let (answered, longest) = ask(&store, 40).await;
            println!("{answered} of 40 answered, the last after {longest:?}");
            assert_eq!(answered, 0);
            assert!(longest < BOUND + GRACE, "{longest:?}");
        }
        let attempts = wire.opened() - opened;
        println!("{attempts} connections tried in {:?}", begun.elapsed());
        assert!(attempts <= 8 * 20, "a herd: {attempts}");
        wire.set(State::Open);
        println!("all are answered again after {:?}", recover(&store).await);
    }
    database.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_may_connect_and_then_again() {
    let Some(database) = Database::new().await else {
        return;
    };
    let store = database.store(MANY).await;
    recover(&store).await;
    database.allow_connections(false).await;
    database.terminate_others().await;
    let (error, took) = timed(store.reserve(&call("alice"))).await;
    let error = error.unwrap_err();
    assert!(took < BOUND + GRACE, "{took:?}");
    let said = chain(&error);
    assert!(
        said.contains("not currently accepting connections"),
        "{said}"
    );
    database.allow_connections(true).await;
    recover(&store).await;
    database.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_another_session_holds_is_waited_for_no_longer_than_the_bound() {
    let Some(database) = Database::new().await else {
        return;
    };
    let store = database.store(MANY).await;
    recover(&store).await;
    let held_before = held(&database).await;
    let mut other = client(&database.url).await;
    let transaction = other.transaction().await.unwrap();
    let lock = "SELECT 1 FROM quota_accounts FOR UPDATE";
    transaction.query(lock, &[]).await.unwrap();
    for _ in 0..3 {
        let (answered, longest) = ask(&store, 40).await;
        println!("{answered} of 40 answered, the last after {longest:?}");
        assert_eq!(answered, 0);
        assert!(longest < BOUND + GRACE, "{longest:?}");
    }
    // One family that waits is not in the way of others.
    let begun = Instant::now();
    let (waiting, answered) = tokio::join!(ask_for(1, &store, 40), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        store.reserve(&call("another")).await.unwrap();
        begun.elapsed()
    });
    println!("another was answered after {answered:?}");
    assert_eq!(waiting.0, 0);
    transaction.rollback().await.unwrap();
    let answered = i64::try_from(ask(&store, 4).await.0).unwrap();
    let held_now = held(&database).await - held_before;
    assert_eq!(held_now, 1 + answered, "what was given up is not held");
    database.end().await;
}

#[tokio::test]
async fn nothing_is_held_for_who_does_not_wait_any_more() {
    let Some(database) = Database::new().await else {
        return;
    };
    let wire = Wire::to(&database).await;
    let store = connect(&database.url_by(wire.port), ONE_A_DAY)
        .await
        .connections(1);
    let granted = store.reserve(&call("alice")).await.unwrap();
    store.release(granted.ticket()).await.unwrap();

    wire.set(State::Silent);
    let (error, took) = timed(store.reserve(&call("alice"))).await;
    error.unwrap_err();
    assert!(took < BOUND + GRACE, "{took:?}");
    // The question arrives at the server.
    wire.set(State::Open);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(held(&database).await, 0);
    assert_eq!(stands(&store, "alice").await, (0, 0));
    store.reserve(&call("alice")).await.unwrap();
    database.end().await;
}

#[tokio::test]
async fn what_is_reserved_for_nobody_is_given_back_at_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let store = database.store(MANY).await;
    store.reserve(&call("alice")).await.unwrap();
    let mut dropped = 0;
    for microseconds in (0..20_000).step_by(200) {
        let patience = Duration::from_micros(microseconds);
        let charge = call("alice");
        let answer = tokio::time::timeout(patience, store.reserve(&charge)).await;
        match answer {
            Ok(granted) => drop(store.release(granted.unwrap().ticket()).await.unwrap()),
            Err(_) => dropped += 1,
        }
    }
    println!("{dropped} were dropped");
    let begun = Instant::now();
    while held(&database).await > 1 {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stands(&store, "alice").await, (0, 1));
    database.end().await;
}

#[tokio::test]
async fn abandoning_gives_back_at_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let store = database.store(ONE_A_DAY).await;
    let granted = store.reserve(&call("alice")).await.unwrap();
    store.abandon(granted.ticket());
    let begun = Instant::now();
    while held(&database).await > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.reserve(&call("alice")).await.unwrap();
    database.end().await;
}

#[tokio::test]
async fn what_keeps_it_from_connecting_is_said_without_the_password() {
    let Some(database) = Database::new().await else {
        return;
    };
    let url = |text: &str| text.to_owned();
    for (url, wanted) in [
        (url("postgres://x:sesame-17@127.0.0.1:1/d"), "refused"),
        (url("postgres://x:sesame-17@nowhere.invalid/d"), "lookup"),
        (url("postgres://x:sesame-17@h/d?sslmode=full"), "sslmode"),
        (
            database.url.replace("quota_test", "sesame"),
            "does not exist",
        ),
    ] {
        let plan = tower_quota::Limits::default();
        let error = PostgresStore::connect(&url, plan).await.unwrap_err();
        let said = chain(&error);
        println!("{said}");
        assert!(said.contains(wanted), "{said}");
        assert!(!format!("{said}{error:?}").contains("sesame-17"), "{said}");
    }
    let wire = Wire::to(&database).await;
    let url = database.url_by(wire.port).replacen(":@", ":sesame-17@", 1);
    if let Ok(store) = PostgresStore::connect(&url, tower_quota::Limits::default()).await {
        let store = store.connections(2);
        wire.set(State::Cut);
        let charge = Charge::new("alice");
        let error = store.reserve(&charge).await.unwrap_err();
        let shown = format!("{store:?} {error:?} {}", chain(&error));
        assert!(!shown.contains("sesame-17"), "{shown}");
    }
    database.end().await;
}

async fn held(database: &Database) -> i64 {
    let held = "SELECT count(*) FROM quota_reservations WHERE state = 0";
    database.count(held).await
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let source = error.source().map(chain);
    source.map_or(error.to_string(), |source| format!("{error}: {source}"))
}
