//! What several gateways do at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::join_all;
use tower_quota::{Dimension, Grant, Limit, Limits, Terms, Window};

use crate::store::testing::{Database, assign, client, person};
use crate::store::{Alert, AlertState, Link, Store, StoreError};

/// Two gateways on one database.
async fn two(database: &Database) -> [Store; 2] {
    [database.store().await, database.store().await]
}

fn alert(id: String, threshold: u8) -> Alert {
    Alert {
        id,
        subject: "alice".to_owned(),
        alert_type: "daily_tokens".to_owned(),
        threshold,
        window_start: UNIX_EPOCH,
        used: 1,
        amount: 2,
        state: AlertState::Triggered,
        triggered_at: UNIX_EPOCH,
        resolved: None,
        attempts: 0,
    }
}

#[tokio::test]
async fn gateways_that_start_at_once_make_the_tables_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let stores = join_all((0..4).map(|_| database.store())).await;
    let keys = stores
        .iter()
        .zip(0..)
        .map(|(store, n)| store.key("device", move || vec![n]));
    let keys: HashSet<_> = join_all(keys)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(keys.len(), 1, "all have the key that was kept");
    let client = client(&database.url).await;
    let versions = "SELECT string_agg(version::text, ',' ORDER BY version) FROM gateway_schema";
    let versions: String = client.query_one(versions, &[]).await.unwrap().get(0);
    assert_eq!(versions, "1,2,3,4,5,6,7,8,9,10,11,12,13,14");
    database.end().await;
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused() {
    let Some(database) = Database::new().await else {
        return;
    };
    drop(database.store().await);
    let newer = "INSERT INTO gateway_schema (version) VALUES (999)";
    let client = client(&database.url).await;
    client.batch_execute(newer).await.unwrap();
    let refused = Store::connect(&database.url).await;
    assert!(matches!(refused, Err(StoreError::Newer { version: 999 })));
    database.end().await;
}

#[tokio::test]
async fn each_of_those_who_come_at_once_gets_a_slot_of_their_own() {
    let Some(database) = Database::new().await else {
        return;
    };
    let stores = two(&database).await;
    let seekers = (0..20).flat_map(|n| stores.iter().map(move |store| (store, n)));
    let assigned = seekers.map(async |(store, n)| {
        let user_id: Arc<str> = format!("user-{n}").into();
        store.put_user(&person(&user_id)).await.unwrap();
        (n, assign(store, &user_id, "one").await)
    });
    // Each user at both gateways, which say the same.
    let assigned: HashSet<_> = join_all(assigned).await.into_iter().collect();
    assert_eq!(assigned.len(), 20);
    let slots: HashSet<_> = assigned.into_iter().map(|(_, slot)| slot).collect();
    assert_eq!(slots, (1..=20).collect());
    database.end().await;
}

#[tokio::test]
async fn of_two_who_keep_the_same_alert_one_is_told_that_it_is_new() {
    let Some(database) = Database::new().await else {
        return;
    };
    let stores = two(&database).await;
    for threshold in 1..=20 {
        let put = stores.iter().zip(["a", "b"]).map(|(store, by)| {
            let alert = alert(format!("{by}{threshold}"), threshold);
            store.put_alert(alert, true)
        });
        let put = join_all(put).await.into_iter().map(Result::unwrap);
        assert_eq!(put.filter(|is_new| *is_new).count(), 1);
    }
    database.end().await;
}

#[tokio::test]
async fn an_alert_is_claimed_by_one_of_those_who_claim_at_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let stores = two(&database).await;
    for threshold in 1..=100 {
        let alert = alert(threshold.to_string(), threshold);
        assert!(stores[0].put_alert(alert, true).await.unwrap());
    }
    let lease = Duration::from_secs(60);
    let claims = (0..5).flat_map(|_| &stores);
    let claims = claims.map(|store| store.claim_deliveries(10, lease));
    let mut claimed = Vec::new();
    for claim in join_all(claims).await {
        let claim = claim.unwrap();
        assert!(claim.len() <= 10);
        assert!(claim.is_sorted_by_key(|alert| alert.threshold));
        claimed.extend(claim.into_iter().map(|alert| alert.id));
    }
    // Whoever came second may have passed over what the first was claiming.
    let once: HashSet<_> = claimed.iter().collect();
    assert_eq!(once.len(), claimed.len());
    let rest = stores[0].claim_deliveries(100, lease).await.unwrap();
    assert_eq!(claimed.len() + rest.len(), 100);
    database.end().await;
}

#[tokio::test]
async fn terms_that_are_put_at_once_are_those_of_one() {
    let Some(database) = Database::new().await else {
        return;
    };
    let stores = two(&database).await;
    let alice: Arc<str> = "alice".into();
    let later = stores[0].time().await.unwrap() + Duration::from_secs(600);
    let terms = [1, 2].map(|amount| {
        let limits = [Dimension::Tokens, Dimension::Calls]
            .map(|dimension| Limit::at_most(dimension, Window::Day, amount));
        let grant = || Grant::new(Dimension::Calls, Window::Day, amount, later);
        Terms::default()
            .limits(Limits::new(limits).unwrap())
            .grant(grant())
            .grant(grant())
            .plan(format!("plan-{amount}"))
    });
    for _ in 0..10 {
        let puts = (0..4).map(|n| stores[n % 2].put_terms(&alice, &terms[n / 2]));
        let (puts, seen) = tokio::join!(
            join_all(puts),
            join_all(stores.iter().map(Store::all_terms))
        );
        assert!(puts.iter().all(Result::is_ok));
        let after = stores[0].all_terms().await.unwrap();
        assert_eq!(after.len(), 1);
        let seen = seen.into_iter().flat_map(Result::unwrap);
        for (_, seen) in seen.chain(after) {
            assert!(terms.iter().any(|terms| seen == terms.clone()), "{seen:?}");
        }
    }
    database.end().await;
}

#[tokio::test]
async fn who_comes_first_at_two_gateways_at_once_is_one_user() {
    let Some(database) = Database::new().await else {
        return;
    };
    let stores = two(&database).await;
    for n in 0..30 {
        let person = person(&format!("user-{n}"));
        let puts = (0..6).map(|n| stores[n % 2].put_user(&person));
        for put in join_all(puts).await {
            put.unwrap();
        }
        let link = Link::new("github", n.to_string(), Arc::clone(person.user_id()));
        let links = (0..6).map(|n| stores[n % 2].link(link.clone(), "admin"));
        for linked in join_all(links).await {
            assert!(linked.unwrap());
        }
    }
    assert_eq!(stores[0].links().await.unwrap().len(), 30);
    database.end().await;
}
