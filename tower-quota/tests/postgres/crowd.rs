//! A thousand at once for the last unit, by three gateways.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};
use tower_quota::{Dimension, Limit, PostgresStore, QuotaStore, ReserveError, Subject, Window};

use crate::support::{Database, ONE_A_DAY, call, stands};

async fn gateways(database: &Database) -> Vec<PostgresStore> {
    let mut stores = Vec::new();
    for _ in 0..3 {
        let store = database.store(ONE_A_DAY).await;
        stores.push(store.timeout(Duration::from_secs(60)));
    }
    stores
}

/// How many of a thousand are admitted; all others are refused.
async fn admitted(stores: &[PostgresStore], who: impl Fn(usize) -> Subject) -> usize {
    let mut asking = JoinSet::new();
    for n in 0..1_000 {
        let (store, charge) = (stores[n % stores.len()].clone(), call(who(n)));
        asking.spawn(async move {
            match store.reserve(&charge).await {
                Ok(_) => 1,
                Err(ReserveError::Denied(_)) => 0,
                Err(error) => panic!("{error:?}"),
            }
        });
    }
    asking.join_all().await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_49_what_many_dead_holders_held_refuses_nobody() {
    let Some(database) = Database::new().await else {
        return;
    };
    let lease = Duration::from_secs(3);
    let store = database.store([Limit::at_most(Dimension::Calls, Window::Day, 600)]);
    let store = store.await.lease(lease).timeout(Duration::from_secs(60));
    let held = (0..600).map(|_| store.reserve(&call("alice")));
    for held in held.collect::<JoinSet<_>>().join_all().await {
        held.unwrap();
    }
    let refused = store.reserve(&call("alice")).await;
    assert!(matches!(refused, Err(ReserveError::Denied(_))));
    tokio::time::sleep(lease).await;
    store.reserve(&call("alice")).await.unwrap();
    database.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_48_of_a_thousand_at_once_one_gets_the_last_unit() {
    let Some(database) = Database::new().await else {
        return;
    };
    let stores = gateways(&database).await;
    for round in 0..10 {
        let begun = Instant::now();
        let admitted = admitted(&stores, |_| format!("user {round}").into()).await;
        println!(
            "round {round}: {admitted} of 1000 admitted in {:?}",
            begun.elapsed()
        );
        assert_eq!(admitted, 1);
        assert_eq!(stands(&stores[0], format!("user {round}")).await, (0, 1));
    }
    database.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_48_of_a_thousand_unknown_users_one_gets_the_last_unit_of_their_parent() {
    let Some(database) = Database::new().await else {
        return;
    };
    let stores = gateways(&database).await;
    for round in 0..10 {
        let begun = Instant::now();
        let org = format!("org {round}");
        let admitted = admitted(&stores, |n| Subject::new(format!("user {n}")).under(&*org)).await;
        println!(
            "round {round}: {admitted} of 1000 admitted in {:?}",
            begun.elapsed()
        );
        assert_eq!(admitted, 1);
        assert_eq!(stands(&stores[0], &*org).await, (0, 1));
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(database.count(deadlocks).await, 0);
    database.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_requests_of_a_thousand_unknown_users_are_all_limited() {
    let Some(database) = Database::new().await else {
        return;
    };
    let stores = gateways(&database).await;
    assert_eq!(
        admitted(&stores, |n| format!("user {n}").into()).await,
        1_000
    );
    assert_eq!(admitted(&stores, |n| format!("user {n}").into()).await, 0);
    // Ten at once for each of a hundred.
    assert_eq!(
        admitted(&stores, |n| format!("new {}", n % 100).into()).await,
        100
    );
    database.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_would_rather_have_transactions_serialisable_is_no_different() {
    let Some(database) = Database::new().await else {
        return;
    };
    let name = database.url.rsplit('/').next().unwrap();
    let rather = format!("ALTER DATABASE {name} SET default_transaction_isolation TO serializable");
    database.client.batch_execute(&rather).await.unwrap();
    let stores = gateways(&database).await;
    assert_eq!(admitted(&stores, |_| "alice".into()).await, 1);
    assert_eq!(
        admitted(&stores, |n| format!("user {n}").into()).await,
        1_000
    );
    database.end().await;
}
