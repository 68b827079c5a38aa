//! Servers that have lost what was counted.

use std::time::Duration;

use tokio::time::sleep;
use tower_quota::{
    Amounts, Charge, Clock as _, Dimension, Granted, Limit, Limits, QuotaStore as _, RedisStore,
    RedisStoreBuilder, Released, Renewed, ReserveError, Settled, Subject, SystemClock, Terms,
    Ticket, Window,
};

use crate::support::{Server, client, run};

fn builder() -> RedisStoreBuilder {
    let limits = [Limit::at_most(Dimension::Calls, Window::Month, 10)];
    let builder = RedisStore::builder(Limits::new(limits).unwrap());
    builder.timeout(Duration::from_secs(5))
}

async fn call(store: &RedisStore, calls: u64) -> Result<Granted, ReserveError> {
    let charge = Charge::new("alice").exactly(Dimension::Calls, calls);
    store.reserve(&charge).await
}

async fn is_closed(store: &RedisStore) -> bool {
    let answer = call(store, 1).await;
    let closed = matches!(answer, Err(ReserveError::Unavailable(_)));
    assert_eq!(closed, store.lost(), "{answer:?}");
    closed
}

/// Goes by the epoch for which it has counted, if it has begun.
async fn goes_by(store: &RedisStore, member: &str) -> bool {
    let members = store.members().await.unwrap();
    store.go_by(&members, member)
}

async fn used(store: &RedisStore) -> (u64, u64) {
    let standing = store.standings(&"alice".into()).await.unwrap()[0];
    (standing.used(), standing.reserved())
}

#[tokio::test]
async fn flushed_counters_close_every_store_until_somebody_has_counted_again() {
    let Some(server) = Server::start().await else {
        return;
    };
    let url = server.url();
    let (one, two) = (
        builder().connect(&url).await.unwrap(),
        builder().connect(&url).await.unwrap(),
    );
    let client = client(&url).await;
    let own = Limits::new([Limit::at_most(Dimension::Calls, Window::Month, 6)]).unwrap();
    let alice: Subject = "alice".into();
    let terms = Terms::default().limits(own.clone());
    assert!(
        one.set_terms(&alice, Terms::default().plan("x"))
            .await
            .unwrap()
    );
    assert!(!is_closed(&two).await);
    let granted = call(&one, 1).await.unwrap();
    let at = granted.ticket().admitted_at();

    run::<String>(&client, "FLUSHALL").await;
    assert!(is_closed(&one).await && is_closed(&two).await);
    one.settle(granted.ticket(), Amounts::new().calls(1))
        .await
        .unwrap_err();
    one.terms(&alice).await.unwrap_err();

    // A newcomer who knows of nothing opens it for itself and for no other.
    let newcomer = builder().connect(&url).await.unwrap();
    assert!(!is_closed(&newcomer).await);
    assert!(is_closed(&one).await && is_closed(&two).await);
    run::<String>(&client, "FLUSHALL").await;
    assert!(is_closed(&newcomer).await);

    // Two who each have a ledger. One dies half-way and begins again: what it has counted counts once.
    let members = ["one", "two"].map(str::to_owned);
    let of = |n: u128| Ticket::new(n, alice.clone(), at);
    for counted in [Amounts::new().calls(1), Amounts::new().calls(2)] {
        let reseeding = one.reseed("one", &members).await.unwrap();
        reseeding.set_terms(&alice, terms.clone()).await.unwrap();
        reseeding.count(&of(1), counted).await.unwrap();
    }
    let reseeding = one.reseed("one", &[]).await.unwrap();
    let again = reseeding.count(&of(1), Amounts::new().calls(3)).await;
    assert_eq!(again.unwrap(), Settled::AlreadySettled);
    let epoch = reseeding.epoch();
    reseeding.finish().await.unwrap();
    let awaited = two.members().await.unwrap();
    assert_eq!(awaited.awaited().collect::<Vec<_>>(), ["two"]);
    assert!(awaited.waits("one") && !awaited.has_counted("one"));
    assert!(is_closed(&one).await && is_closed(&two).await && is_closed(&newcomer).await);
    let reseeding = two.reseed("two", &[]).await.unwrap();
    assert_eq!(reseeding.epoch(), epoch);
    reseeding
        .count(&of(2), Amounts::new().calls(3))
        .await
        .unwrap();
    reseeding.finish().await.unwrap();

    for store in [&one, &two, &newcomer] {
        assert_eq!(used(store).await, (4, 0));
        assert!(!store.lost());
        let limit = call(store, 3).await.unwrap_err();
        assert!(matches!(limit, ReserveError::Denied(denied) if denied.limit() == 6));
        let members = store.members().await.unwrap();
        assert!(members.has_counted("one") && members.has_counted("two"));
    }
    let late = Amounts::new().calls(1);
    let settled = one.settle(granted.ticket(), late).await.unwrap();
    assert_eq!(settled, Settled::Forgotten);
    for settled in [
        Settled::Applied { overshoot: late },
        Settled::AlreadySettled,
    ] {
        assert_eq!(two.count(granted.ticket(), late).await.unwrap(), settled);
    }
    call(&one, 1).await.unwrap();
    assert_eq!(used(&two).await, (5, 1));
}

#[tokio::test]
async fn who_comes_later_counts_for_the_present_epoch_and_nobody_waits() {
    let Some(server) = Server::start().await else {
        return;
    };
    let builder = builder().await_reseeding();
    let (one, two) = (
        builder.clone().connect(&server.url()).await.unwrap(),
        builder.connect(&server.url()).await.unwrap(),
    );
    assert!(one.lost() && is_closed(&one).await && is_closed(&two).await);
    let reseeding = one.reseed("one", &[]).await.unwrap();
    reseeding.finish().await.unwrap();
    assert!(goes_by(&one, "one").await && !goes_by(&two, "two").await);
    assert!(
        !is_closed(&one).await && is_closed(&two).await,
        "it has not counted"
    );
    let held = call(&one, 1).await.unwrap();

    assert!(!two.members().await.unwrap().has_counted("two"));
    let reseeding = two.reseed("two", &[]).await.unwrap();
    let at = held.ticket().admitted_at();
    let own = Ticket::new(1, "alice", at);
    reseeding
        .count(&own, Amounts::new().calls(5))
        .await
        .unwrap();
    assert!(!is_closed(&one).await);
    reseeding.finish().await.unwrap();
    assert!(goes_by(&two, "two").await && !is_closed(&two).await);
    let settled = one.settle(held.ticket(), Amounts::new().calls(1)).await;
    assert!(matches!(settled.unwrap(), Settled::Applied { .. }));
    assert_eq!(used(&two).await.0, 6);
}

#[tokio::test]
async fn a_member_that_is_forgotten_is_not_waited_for() {
    let Some(server) = Server::start().await else {
        return;
    };
    let builder = builder().await_reseeding();
    let store = builder.connect(&server.url()).await.unwrap();
    let reseeding = store.reseed("here", &["gone".to_owned()]).await.unwrap();
    reseeding.finish().await.unwrap();
    assert!(is_closed(&store).await);
    store.forget("gone").await.unwrap();
    assert!(goes_by(&store, "here").await);
    assert!(!is_closed(&store).await);
}

#[tokio::test]
async fn a_flush_while_it_is_counted_begins_it_anew() {
    let Some(server) = Server::start().await else {
        return;
    };
    let store = builder().await_reseeding();
    let store = store.connect(&server.url()).await.unwrap();
    let client = client(&server.url()).await;
    let ticket = Ticket::new(1, "alice", SystemClock.now());
    let two = Amounts::new().calls(2);
    let reseeding = store.reseed("one", &[]).await.unwrap();
    reseeding.count(&ticket, two).await.unwrap();
    run::<String>(&client, "FLUSHALL").await;
    reseeding.count(&ticket, two).await.unwrap_err();
    reseeding.finish().await.unwrap_err();
    assert!(is_closed(&store).await);
    let reseeding = store.reseed("one", &[]).await.unwrap();
    reseeding.count(&ticket, two).await.unwrap();
    reseeding.finish().await.unwrap();
    assert!(goes_by(&store, "one").await);
    assert_eq!(used(&store).await, (2, 0));
}

#[tokio::test]
async fn what_is_in_flight_when_counters_are_lost_is_held_in_the_next_ones() {
    let Some(server) = Server::start().await else {
        return;
    };
    let store = builder().await_reseeding();
    let store = store.connect(&server.url()).await.unwrap();
    let begin = async || store.reseed("one", &[]).await.unwrap();
    begin().await.finish().await.unwrap();
    assert!(goes_by(&store, "one").await);
    let granted = [
        call(&store, 4).await.unwrap(),
        call(&store, 3).await.unwrap(),
        call(&store, 2).await.unwrap(),
    ];
    let client = client(&server.url()).await;
    run::<String>(&client, "FLUSHALL").await;
    assert!(is_closed(&store).await);
    let reseeding = begin().await;
    for granted in granted.iter().chain(&granted) {
        let held = reseeding.hold(granted.ticket(), granted.held()).await;
        held.unwrap();
    }
    reseeding.finish().await.unwrap();
    assert!(goes_by(&store, "one").await);

    assert_eq!(used(&store).await, (0, 9));
    call(&store, 2).await.unwrap_err();
    let [settled, released, counted] = granted.map(Granted::into_ticket);
    assert_eq!(store.renew(&settled).await.unwrap(), Renewed::Applied);
    let five = Amounts::new().calls(5);
    let answer = store.settle(&settled, five).await.unwrap();
    let overshoot = Amounts::new().calls(1);
    assert_eq!(answer, Settled::Applied { overshoot });
    assert_eq!(
        store.settle(&settled, five).await.unwrap(),
        Settled::AlreadySettled
    );
    assert_eq!(store.release(&released).await.unwrap(), Released::Applied);
    store.count(&counted, overshoot).await.unwrap();
    assert_eq!(used(&store).await, (6, 0));
}

#[tokio::test]
async fn a_server_that_was_started_again_is_counted_again_whatever_it_remembers() {
    let Some(mut server) = Server::start_lasting().await else {
        return;
    };
    let store = builder().await_reseeding();
    let store = store.connect(&server.url()).await.unwrap();
    let reseeding = store.reseed("one", &[]).await.unwrap();
    reseeding.finish().await.unwrap();
    assert!(goes_by(&store, "one").await);
    let granted = call(&store, 3).await.unwrap();
    let three = Amounts::new().calls(3);
    store.settle(granted.ticket(), three).await.unwrap();

    server.kill();
    server.restart().await;
    for _ in 0..50 {
        assert!(is_closed(&store).await, "what it has may be old");
        sleep(Duration::from_millis(20)).await;
    }
    let members = store.members().await.unwrap();
    assert!(!members.has_counted("one") && !store.go_by(&members, "one"));
    let reseeding = store.reseed("one", &[]).await.unwrap();
    let ticket = Ticket::new(1, "alice", granted.ticket().admitted_at());
    reseeding
        .count(&ticket, Amounts::new().calls(4))
        .await
        .unwrap();
    reseeding.finish().await.unwrap();
    assert!(goes_by(&store, "one").await);
    assert_eq!(used(&store).await, (4, 0), "as the ledger says");
}

#[tokio::test]
async fn a_connection_that_is_lost_is_no_loss_of_counters() {
    let Some(server) = Server::start().await else {
        return;
    };
    let store = builder().await_reseeding();
    let store = store.connect(&server.url()).await.unwrap();
    let reseeding = store.reseed("one", &[]).await.unwrap();
    reseeding.finish().await.unwrap();
    assert!(goes_by(&store, "one").await);
    call(&store, 3).await.unwrap();
    let client = client(&server.url()).await;
    run::<i64>(&client, "CLIENT KILL TYPE normal SKIPME yes").await;
    while !store.lost() {
        sleep(Duration::from_millis(5)).await;
    }
    call(&store, 1).await.unwrap_err();
    while store.members().await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(goes_by(&store, "one").await);
    assert_eq!(used(&store).await, (0, 3));
}
