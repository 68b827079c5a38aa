//! What every store has to keep.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tower_quota::{
    Amounts, Charge, Denied, Dimension, Limit, Limits, MemoryStore, QuotaStore, ReserveError,
    Settled, StoreError, Subject, Terms, Ticket, TimeZone, Window, laws,
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

    let count = async |id, at, calls| {
        let ticket = Ticket::new(id, "alice", at);
        let counted = store.count(&ticket, Amounts::new().calls(calls)).await;
        counted.unwrap()
    };
    let overshoot = Amounts::new().calls(1);
    assert_eq!(count(1, now, 1).await, Settled::Applied { overshoot });
    assert_eq!(count(1, now, 9).await, Settled::AlreadySettled);
    count(2, now - 60 * day, 4).await;
    let id = granted.ticket().id();
    count(id, now, 0).await;
    let settled = store.settle(granted.ticket(), overshoot).await;
    assert_eq!(settled.unwrap(), Settled::AlreadySettled);
    let held = store.reserve(&Charge::new("alice").exactly(Dimension::Calls, 1));
    let held = held.await.unwrap();
    count(held.ticket().id(), now, 0).await;

    let standings = store.standings(&alice).await.unwrap();
    let used = standings.iter().map(|s| (s.used(), s.reserved()));
    assert_eq!(used.collect::<Vec<_>>(), [(1, 0), (1, 0)]);
}

/// What a clock that jumps and a zone that changes leave of periods, as the last refusal of each step says.
async fn periods(store: &dyn QuotaStore, clock: &laws::TestClock) -> Vec<Denied> {
    let noon = UNIX_EPOCH + Duration::from_millis(1_773_576_000_000);
    let day = Duration::from_secs(86_400);
    let charge = Charge::new(Subject::new("alice").under("org")).exactly(Dimension::Calls, 1);
    let mut periods = Vec::new();
    for (zone, at) in [
        ("UTC", noon),
        ("UTC", noon + 2 * day),
        ("Pacific/Honolulu", noon + day),
        ("Pacific/Kiritimati", noon + 3 * day),
        ("Pacific/Kiritimati", noon),
    ] {
        clock.set(at);
        for subject in charge.subject().chain() {
            let terms = store.terms(&subject).await.unwrap();
            let zone = TimeZone::named(zone).unwrap();
            let set = store.set_terms(&subject, terms.time_zone(zone));
            assert!(set.await.unwrap());
        }
        loop {
            match store.reserve(&charge).await {
                Ok(granted) => drop(
                    store
                        .settle(granted.ticket(), granted.held())
                        .await
                        .unwrap(),
                ),
                Err(ReserveError::Denied(denied)) => break periods.push(denied),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    periods
}

#[tokio::test]
async fn d5_50_periods_are_those_of_the_store_in_memory_when_clocks_jump_and_zones_change() {
    let Some(url) = url() else { return };
    let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 2)]).unwrap();
    let clock = Arc::new(laws::TestClock::new(UNIX_EPOCH));
    let memory = MemoryStore::new(plan.clone()).clock(clock.clone());
    let lawful = periods(&memory, &clock).await;
    let store = builder(plan).clock(clock.clone()).connect(&url).await;
    assert_eq!(periods(&store.unwrap(), &clock).await, lawful);
    let lengths = lawful
        .iter()
        .map(|denied| denied.period().length().as_secs() / 3_600);
    assert_eq!(lengths.collect::<Vec<_>>(), [24, 24, 14, 24, 24]);
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
