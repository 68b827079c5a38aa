//! Servers that have lost what was counted.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tower_quota::{
    Amounts, Charge, Dimension, Granted, Limit, Limits, QuotaStore as _, RedisStore,
    RedisStoreBuilder, ReserveError, Settled, Subject, Terms, Window,
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

    // Half of it counts for nothing.
    let reseeding = one.reseed().await.unwrap();
    reseeding
        .add_used(&alice, at, Amounts::new().calls(3))
        .await
        .unwrap();
    two.reseed().await.unwrap_err();
    assert!(is_closed(&one).await && is_closed(&two).await);
    drop(reseeding);
    let reseeding = loop {
        match two.reseed().await {
            Ok(reseeding) => break reseeding,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    assert!(reseeding.set_terms(&alice, terms).await.unwrap());
    reseeding
        .add_used(&alice, at, Amounts::new().calls(2))
        .await
        .unwrap();
    reseeding
        .add_used(&alice, at, Amounts::new().calls(2))
        .await
        .unwrap();
    reseeding.begin_epoch().await.unwrap();

    for store in [&one, &two, &newcomer] {
        assert_eq!(used(store).await, (4, 0));
        assert!(!store.lost());
        let limit = call(store, 3).await.unwrap_err();
        assert!(matches!(limit, ReserveError::Denied(denied) if denied.limit() == 6));
    }
    let late = one.settle(granted.ticket(), Amounts::new().calls(1)).await;
    assert_eq!(late.unwrap(), Settled::Forgotten);
    call(&one, 2).await.unwrap();
    assert_eq!(used(&two).await, (4, 2));
}

#[tokio::test]
async fn who_keeps_a_ledger_finds_a_new_server_closed() {
    let Some(server) = Server::start().await else {
        return;
    };
    let builder = builder().await_reseeding();
    let (one, two) = (
        builder.clone().connect(&server.url()).await.unwrap(),
        builder.connect(&server.url()).await.unwrap(),
    );
    assert!(one.lost() && is_closed(&one).await && is_closed(&two).await);
    one.reseed().await.unwrap().begin_epoch().await.unwrap();
    assert!(!is_closed(&one).await && !is_closed(&two).await);
}

#[tokio::test]
async fn what_is_held_when_it_is_counted_again_is_of_another_epoch() {
    let Some(server) = Server::start().await else {
        return;
    };
    let store = builder().lease(Duration::from_millis(200));
    let store = store.connect(&server.url()).await.unwrap();
    let before = call(&store, 3).await.unwrap();
    let at: SystemTime = before.ticket().admitted_at();

    let reseeding = store.reseed().await.unwrap();
    reseeding
        .add_used(&"alice".into(), at, Amounts::new().calls(5))
        .await
        .unwrap();
    reseeding.begin_epoch().await.unwrap();
    let after = call(&store, 5).await.unwrap();
    assert_eq!(used(&store).await, (5, 5));
    for _ in 0..5 {
        sleep(Duration::from_millis(100)).await;
        store.renew(after.ticket()).await.unwrap();
    }

    assert_eq!(
        used(&store).await,
        (5, 5),
        "what is reclaimed is not of these"
    );
    let one = Amounts::new().calls(1);
    let settled = store.settle(before.ticket(), one).await.unwrap();
    assert_eq!(settled, Settled::Forgotten);
    assert_eq!(used(&store).await, (5, 5));
}
