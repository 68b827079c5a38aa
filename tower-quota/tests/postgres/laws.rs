//! What every store promises, and what only this one can.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tokio::{sync::Mutex, task::JoinSet};
use tower_quota::{
    Amounts, Charge, Dimension, Limit, Limits, PostgresStore, QuotaStore, Released, Settled,
    Subject, Ticket, Window, laws,
};

use crate::support::{Database, ONE_A_DAY, call, connect, stands};

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_law() {
    let Some(database) = Database::new().await else {
        return;
    };
    // Each law's is dropped when the next begins.
    let last = Mutex::new(None::<Database>);
    laws::all(&async |plans, clock| {
        let database = Database::another().await;
        let store = PostgresStore::connect(&database.url, plans).await.unwrap();
        if let Some(last) = last.lock().await.replace(database) {
            last.end().await;
        }
        // A thousand at once take their time.
        let store = store.lease(laws::LEASE).timeout(Duration::from_secs(60));
        Arc::new(store.clock(clock)) as Arc<dyn QuotaStore>
    })
    .await;
    if let Some(last) = last.into_inner() {
        last.end().await;
    }
    database.end().await;
}

#[tokio::test]
async fn several_make_an_empty_database_theirs_at_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let mut connecting = JoinSet::new();
    for _ in 0..8 {
        let url = database.url.clone();
        connecting.spawn(async move { connect(&url, ONE_A_DAY).await });
    }
    let stores = connecting.join_all().await;
    let granted = stores[0].reserve(&call("alice")).await.unwrap();
    stores[1].reserve(&call("alice")).await.unwrap_err();
    let one = Amounts::new().calls(1);
    let settled = stores[2].settle(granted.ticket(), one).await.unwrap();
    assert_eq!(
        settled,
        Settled::Applied {
            overshoot: Amounts::new()
        }
    );
    assert_eq!(stands(&stores[3], "alice").await, (1, 0));
    database.end().await;
}

#[tokio::test]
async fn names_may_be_long_and_hold_anything() {
    let Some(database) = Database::new().await else {
        return;
    };
    let store = database.store(ONE_A_DAY).await;
    let long = "🦞\0%'\\".repeat(20_000);
    for name in [
        &*long,
        &long[4..],
        "\0",
        "'; DROP TABLE quota_accounts --",
        "\\x00",
    ] {
        for subject in [Subject::new(name), Subject::new(name).under(name)] {
            let granted = store.reserve(&call(subject.clone())).await.unwrap();
            store.reserve(&call(subject.clone())).await.unwrap_err();
            assert_eq!(stands(&store, subject.clone()).await, (0, 1));
            let released = store.release(granted.ticket()).await.unwrap();
            assert_eq!(released, Released::Applied);
        }
    }
    database.end().await;
}

#[tokio::test]
async fn another_gateways_terms_are_in_force_at_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let (one, other) = (database.store([]).await, database.store([]).await);
    let subject = Subject::new("alice").under("team").under("org");
    let granted = one.reserve(&call(subject.clone())).await.unwrap();
    for (round, whose) in subject.chain().enumerate() {
        let zero = Limits::new([Limit::at_most(Dimension::Calls, Window::Month, 0)]).unwrap();
        let terms = other.terms(&whose).await.unwrap();
        assert!(
            other
                .set_terms(&whose, terms.clone().limits(zero))
                .await
                .unwrap()
        );
        let denied = one.reserve(&call(subject.clone())).await.unwrap_err();
        let tower_quota::ReserveError::Denied(denied) = denied else {
            panic!("{denied}");
        };
        assert_eq!(usize::from(denied.level()), round);
        let terms = other.terms(&whose).await.unwrap();
        let none = Limits::new([]).unwrap();
        assert!(other.set_terms(&whose, terms.limits(none)).await.unwrap());
        one.reserve(&call(subject.clone())).await.unwrap();
    }
    one.settle(granted.ticket(), Amounts::new()).await.unwrap();
    database.end().await;
}

#[tokio::test]
async fn a_ledger_is_counted_in_the_windows_of_admission() {
    let Some(database) = Database::new().await else {
        return;
    };
    let noon = UNIX_EPOCH + Duration::from_millis(1_774_958_400_000);
    let clock = Arc::new(laws::TestClock::new(noon));
    let plan = [Window::Day, Window::Month].map(|w| Limit::at_most(Dimension::Calls, w, 10));
    let store = database.store(plan).await.clock(clock);
    let (alice, day) = (
        Subject::new("alice").under("org"),
        Duration::from_secs(86_400),
    );
    let calls = |calls| Amounts::new().calls(calls);

    let count = async |id, at, used| {
        let ticket = Ticket::new(id, alice.clone(), at);
        store.count(&ticket, calls(used)).await.unwrap()
    };
    let overshoot = calls(1);
    assert_eq!(count(1, noon, 1).await, Settled::Applied { overshoot });
    assert_eq!(count(1, noon, 9).await, Settled::AlreadySettled);
    count(2, noon - day, 2).await;
    count(3, noon - 60 * day, 4).await;
    let charge = Charge::new(alice.clone()).exactly(Dimension::Calls, 1);
    let held = store.reserve(&charge).await.unwrap().into_ticket();
    count(held.id(), noon, 0).await;
    let settled = store.settle(&held, calls(5)).await.unwrap();
    assert_eq!(settled, Settled::AlreadySettled);

    for subject in alice.chain() {
        let standings = store.standings(&subject).await.unwrap();
        let used = standings.iter().map(|s| (s.used(), s.reserved()));
        assert_eq!(used.collect::<Vec<_>>(), [(1, 0), (3, 0)]);
    }
    database.end().await;
}

#[tokio::test]
async fn what_is_over_is_forgotten_and_leaves_nothing() {
    let Some(database) = Database::new().await else {
        return;
    };
    let noon = UNIX_EPOCH + Duration::from_millis(1_774_958_400_000);
    let clock = Arc::new(laws::TestClock::new(noon));
    let store = database.store(ONE_A_DAY).await.clock(clock.clone());
    let reserve = async |name: &str| store.reserve(&call(name)).await.unwrap().into_ticket();
    let settle = async |ticket: &Ticket| store.settle(ticket, Amounts::new()).await.unwrap();
    let (held, given_back, settled) = (
        reserve("held").await,
        reserve("given back").await,
        reserve("settled").await,
    );
    store.release(&given_back).await.unwrap();
    settle(&settled).await;
    let other = Ticket::new(held.id() ^ (1 << 127), "held", noon);
    assert_eq!(settle(&other).await, Settled::Unknown, "another database's");
    let never = Ticket::new(held.id() ^ 1, "held", noon);
    assert_eq!(settle(&never).await, Settled::Forgotten, "never made");

    clock.advance(Duration::from_secs(60 * 60));
    store.sweep().await.unwrap();
    assert_eq!(settle(&settled).await, Settled::AlreadySettled);
    let late = settle(&given_back).await;
    assert!(matches!(late, Settled::Applied { .. }), "{late:?}");
    clock.advance(Duration::from_secs(60 * 86_400));
    for _ in 0..3 {
        store.sweep().await.unwrap();
        // What dead holders held is remembered from now on.
        clock.advance(Duration::from_secs(86_400));
    }
    for ticket in [&held, &settled] {
        assert_eq!(settle(ticket).await, Settled::Forgotten);
    }
    for table in ["quota_counters", "quota_reservations", "quota_accounts"] {
        let rows = database
            .count(&format!("SELECT count(*) FROM {table}"))
            .await;
        assert_eq!(rows, 0, "{table}");
    }
    database.end().await;
}
