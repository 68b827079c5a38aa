//! What every store has to keep.

use std::{sync::Arc, time::Duration};

use tower_quota::{
    Amounts, Charge, Dimension, Limit, Limits, MemoryStore, QuotaStore, Settled, StoreError,
    Subject, Terms, Window, laws,
};

use crate::support::{builder, client, run, store, url};

#[tokio::test]
async fn keeps_every_law() {
    let Some(url) = url() else { return };
    laws::all(&async |plans, clock| {
        let store = builder(plans).lease(laws::LEASE).clock(clock);
        Arc::new(store.connect(&url).await.unwrap()) as Arc<dyn QuotaStore>
    })
    .await;
}

#[tokio::test]
async fn a_ticket_of_another_kind_of_store_is_unknown() {
    let Some(url) = url() else { return };
    let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
    let used = Amounts::new().calls(1);
    let memory = MemoryStore::new(Limits::default());
    let elsewhere = memory.reserve(&charge).await.unwrap();
    let (one, other) = (
        store(&url, Limits::default()).await,
        store(&url, Limits::default()).await,
    );
    let own = one.reserve(&charge).await.unwrap();

    let settled = one.settle(elsewhere.ticket(), used).await;
    assert_eq!(settled.unwrap(), Settled::Unknown);
    let settled = other.settle(own.ticket(), used).await;
    assert_eq!(settled.unwrap(), Settled::Unknown, "another prefix");
    let settled = one.settle(own.ticket(), used).await;
    assert!(matches!(settled.unwrap(), Settled::Applied { .. }));
}

#[tokio::test]
async fn counts_what_a_ledger_says() {
    let Some(url) = url() else { return };
    let store = store(&url, month_and_day()).await;
    let alice = "alice".into();
    let granted = store.reserve(&Charge::new("alice")).await.unwrap();
    let now = granted.ticket().admitted_at();
    let day = Duration::from_secs(86_400);

    let count = async |at, calls| {
        store
            .add_used(&alice, at, Amounts::new().calls(calls))
            .await
    };
    count(now, 1).await.unwrap();
    count(now - 60 * day, 4).await.unwrap();

    let standings = store.standings(&alice).await.unwrap();
    let used: Vec<_> = standings.iter().map(|s| s.used()).collect();
    assert_eq!(used, [1, 1]);
}

#[tokio::test]
async fn everything_but_terms_expires_by_itself() {
    let Some(url) = url() else { return };
    let prefix = crate::support::prefix();
    let store = builder(month_and_day()).prefix(&prefix);
    let store = store.connect(&url).await.unwrap();
    let client = client(&url).await;
    for name in ["settled", "released", "held"] {
        let charge = Charge::new(Subject::new(name).under("org"));
        let granted = store.reserve(&charge.exactly(Dimension::Calls, 1)).await;
        let granted = granted.unwrap();
        match name {
            "settled" => drop(
                store
                    .settle(granted.ticket(), Amounts::new())
                    .await
                    .unwrap(),
            ),
            "released" => drop(store.release(granted.ticket()).await.unwrap()),
            _ => {}
        }
    }
    let terms = Terms::default().plan("x");
    assert!(store.set_terms(&"special".into(), terms).await.unwrap());

    let keys: Vec<String> = run(&client, &format!("KEYS {prefix}:*")).await;
    assert_eq!(keys.len(), 10, "{keys:?}");
    let days = 24 * 60 * 60 * 1_000_i64;
    for key in keys {
        let left: i64 = run(&client, &format!("PTTL {key}")).await;
        let for_good = key.ends_with(":epoch") || key.ends_with("{special}");
        assert_eq!(left == -1, for_good, "{key}: {left}");
        assert!(left <= 33 * days, "{key}: {left}");
    }
}

#[tokio::test]
async fn debug_and_errors_show_no_password() {
    let Some(url) = url() else { return };
    let store = store(&url, Limits::default()).await;
    let mut shown = format!("{store:?} {:?}", builder(Limits::default()));
    for url in [
        "redis://:secret-word@127.0.0.1:1/",
        "nonsense://:secret-word@127.0.0.1",
        "redis://:secret-word@[",
        &url.replace("redis://", "redis://nobody:secret-word@"),
    ] {
        let refused = builder(Limits::default()).connect(url).await;
        let error: StoreError = refused.unwrap_err();
        shown += &format!("{error} {error:?}");
    }
    assert!(!shown.contains("secret-word"), "{shown}");
}

fn month_and_day() -> Limits {
    Limits::new([
        Limit::at_most(Dimension::Calls, Window::Month, 10),
        Limit::at_most(Dimension::Calls, Window::Day, 10),
    ])
    .unwrap()
}
