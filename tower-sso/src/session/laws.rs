//! The laws that every [`Store`] keeps, for stores of one's own.
//!
//! [`check`] panics at the first law that is broken. It adds records of users with random names and may
//! share the store with others; it takes some seconds, since it waits for leases and records to run out.
//!
//! ```no_run
//! # use tower_sso::session::{MemoryStore, laws};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let store = MemoryStore::new();
//! laws::check(&store).await;
//! # }
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a law that is broken panics, as an assertion does"
)]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{End, Key, Kind, Lease, Record, Store, content::to_millis, random};
use crate::{
    Identity,
    jwt::{Clock as _, SystemClock},
};

/// Checks all laws.
///
/// # Panics
///
/// A law is broken, or the store does not answer; the message says which.
pub async fn check(store: &dyn Store) {
    a_record_is_found_as_it_was_kept(store).await;
    a_key_is_taken_once(store).await;
    what_has_expired_is_not_found(store).await;
    touching_moves_forward_only(store).await;
    data_is_replaced_once_for_each_version(store).await;
    one_holder_has_the_lease(store).await;
    a_lease_runs_out(store).await;
    a_user_has_their_own_records(store).await;
    each_end_ends_what_it_names(store).await;
    what_has_ended_is_told(store).await;
    who_is_disabled_is_known(store).await;
    a_claim_is_the_first_ones(store).await;
    of_many_at_once_one_succeeds(store).await;
}

fn now() -> SystemTime {
    to_millis(SystemClock.now())
}

fn later(seconds: u64) -> SystemTime {
    now() + Duration::from_secs(seconds)
}

fn name() -> Arc<str> {
    Key::from_bytes(random().unwrap()).to_string().into()
}

fn record(user_id: &Arc<str>, kind: Kind) -> Record {
    Record {
        key: Key::from_bytes(random().unwrap()),
        kind,
        user_id: Arc::clone(user_id),
        provider: "corp|\u{e4}'\"%".into(),
        subject: format!("subject of {user_id}").into(),
        session_id: Some(format!("sid of {user_id}").into()),
        created_at: now(),
        seen_at: now(),
        expires_at: later(60),
        version: 0,
        data: Bytes::from_static(b"\0data\xff"),
    }
}

async fn kept(store: &dyn Store, record: &Record) -> Record {
    store.insert(record.clone()).await.unwrap();
    record.clone()
}

async fn is_there(store: &dyn Store, key: Key) -> bool {
    store.find(key).await.unwrap().is_some()
}

/// All that is public of a record.
fn shown(record: &Record) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        (record.key, record.kind, Arc::clone(&record.user_id)),
        (Arc::clone(&record.provider), Arc::clone(&record.subject)),
        record.session_id.clone(),
        (record.created_at, record.seen_at, record.expires_at),
        (record.version, record.data.clone()),
    )
}

async fn a_record_is_found_as_it_was_kept(store: &dyn Store) {
    for kind in [Kind::Session, Kind::AccessToken] {
        for session_id in [None, Some("".into()), Some("sid".into())] {
            let wanted = Record {
                session_id,
                ..record(&name(), kind)
            };
            kept(store, &wanted).await;
            let found = store.find(wanted.key).await.unwrap().unwrap();
            assert_eq!(shown(&found), shown(&wanted), "a record changed on its way");
        }
    }
    let nobody = Key::from_bytes(random().unwrap());
    assert!(!is_there(store, nobody).await, "nobody's record was found");
}

async fn a_key_is_taken_once(store: &dyn Store) {
    let first = kept(store, &record(&name(), Kind::Session)).await;
    let second = Record {
        key: first.key,
        ..record(&name(), Kind::Session)
    };
    assert!(store.insert(second).await.is_err(), "a key was taken twice");
    let found = store.find(first.key).await.unwrap().unwrap();
    assert_eq!(
        found.user_id, first.user_id,
        "the first record was replaced"
    );
}

async fn what_has_expired_is_not_found(store: &dyn Store) {
    let user = name();
    let short = Record {
        expires_at: now() + Duration::from_millis(300),
        ..record(&user, Kind::Session)
    };
    kept(store, &short).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let key = short.key;
    assert!(!is_there(store, key).await, "an expired record was found");
    let listed = store.list(&user, Kind::Session).await.unwrap();
    assert!(listed.is_empty(), "an expired record was listed");
    let revived = store.touch(key, now(), later(60)).await.unwrap();
    assert!(!revived, "an expired record was revived");
    let leased = store.lease(key, 1, Duration::from_secs(1)).await.unwrap();
    assert!(!leased.is_held(), "an expired record was leased");
}

async fn touching_moves_forward_only(store: &dyn Store) {
    let kept = kept(store, &record(&name(), Kind::Session)).await;
    let (seen, expires) = (later(10), later(120));
    assert!(store.touch(kept.key, seen, expires).await.unwrap());
    assert!(
        store
            .touch(kept.key, kept.seen_at, kept.expires_at)
            .await
            .unwrap()
    );
    let found = store.find(kept.key).await.unwrap().unwrap();
    let times = (found.seen_at, found.expires_at);
    assert_eq!(times, (seen, expires), "a time moved back");
    assert_eq!(found.version, 0, "touching is no new version");
    let nobody = Key::from_bytes(random().unwrap());
    assert!(!store.touch(nobody, seen, expires).await.unwrap());
}

async fn data_is_replaced_once_for_each_version(store: &dyn Store) {
    let kept = kept(store, &record(&name(), Kind::Session)).await;
    let (first, second) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
    assert!(!store.replace(kept.key, 1, first.clone()).await.unwrap());
    assert!(store.replace(kept.key, 0, first.clone()).await.unwrap());
    assert!(!store.replace(kept.key, 0, second).await.unwrap());
    let found = store.find(kept.key).await.unwrap().unwrap();
    assert_eq!((found.version, found.data), (1, first));
    let nobody = Key::from_bytes(random().unwrap());
    assert!(!store.replace(nobody, 0, Bytes::new()).await.unwrap());
}

async fn one_holder_has_the_lease(store: &dyn Store) {
    let key = kept(store, &record(&name(), Kind::Session)).await.key;
    let long = Duration::from_secs(60);
    let holder = u128::MAX - 1;
    let granted = store.lease(key, holder, long).await.unwrap();
    assert_eq!(granted, Lease::Granted);
    let renewed = store.lease(key, holder, long).await.unwrap();
    assert_eq!(renewed, Lease::Granted, "renewing");
    assert!(
        !store.lease(key, 2, long).await.unwrap().is_held(),
        "two have a lease"
    );
    store.release(key, 2).await.unwrap();
    assert!(
        !store.lease(key, 2, long).await.unwrap().is_held(),
        "released by another"
    );
    store.release(key, holder).await.unwrap();
    let granted = store.lease(key, 2, long).await.unwrap();
    assert_eq!(granted, Lease::Granted, "it was given back");
    assert!(store.replace(key, 0, Bytes::new()).await.unwrap());
    assert!(
        store.lease(key, 3, long).await.unwrap().is_held(),
        "replacing ends it"
    );
    let nobody = Key::from_bytes(random().unwrap());
    let nothing = store.lease(nobody, 1, long).await.unwrap();
    assert_eq!(nothing, Lease::Refused);
}

async fn a_lease_runs_out(store: &dyn Store) {
    let key = kept(store, &record(&name(), Kind::Session)).await.key;
    let short = Duration::from_millis(200);
    let granted = store.lease(key, 1, short).await.unwrap();
    assert_eq!(granted, Lease::Granted);
    let refused = store.lease(key, 2, short).await.unwrap();
    assert_eq!(refused, Lease::Refused);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let taken = store.lease(key, 2, short).await.unwrap();
    assert_eq!(taken, Lease::TakenOver, "its holder died");
}

async fn a_user_has_their_own_records(store: &dyn Store) {
    let (alice, bob) = (name(), name());
    let mut keys = Vec::new();
    for seconds in 0..3 {
        let session = Record {
            created_at: now() - Duration::from_secs(seconds),
            ..record(&alice, Kind::Session)
        };
        keys.push(kept(store, &session).await.key);
    }
    kept(store, &record(&alice, Kind::AccessToken)).await;
    kept(store, &record(&bob, Kind::Session)).await;
    let listed = store.list(&alice, Kind::Session).await.unwrap();
    let listed: Vec<Key> = listed.iter().map(|record| record.key).collect();
    assert_eq!(listed, keys, "the newest first, and nobody else's");
}

async fn each_end_ends_what_it_names(store: &dyn Store) {
    type Named = fn(&Record) -> End;
    // What is named, and whether it ends: the same session, another session of the user, a token, another user's.
    let table: [(Named, [bool; 4]); 5] = [
        (|record| End::Key(record.key), [true, false, false, false]),
        (
            |record| End::User(Arc::clone(&record.user_id)),
            [true, true, true, false],
        ),
        (
            |record| End::Enabled(Arc::clone(&record.user_id)),
            [false; 4],
        ),
        (
            |record| End::IssuerSession {
                provider: Arc::clone(&record.provider),
                session_id: record.session_id.clone().unwrap(),
            },
            [true, false, false, false],
        ),
        (
            |record| End::Subject {
                provider: Arc::clone(&record.provider),
                subject: Arc::clone(&record.subject),
            },
            [true, true, false, false],
        ),
    ];
    for (named, ends) in table {
        let alice = name();
        let session = record(&alice, Kind::Session);
        let records = [
            session.clone(),
            Record {
                session_id: Some("another".into()),
                ..record(&alice, Kind::Session)
            },
            record(&alice, Kind::AccessToken),
            record(&name(), Kind::Session),
        ];
        for record in &records {
            kept(store, record).await;
        }
        let what = named(&session);
        let ended = store.end(what.clone()).await.unwrap();
        let wanted = ends.iter().filter(|ends| **ends).count();
        assert_eq!(ended, wanted as u64, "{what:?} says how many it ended");
        for (record, ends) in records.iter().zip(ends) {
            let is_there = is_there(store, record.key).await;
            assert_eq!(is_there, !ends, "{what:?} and {record:?}");
            assert_eq!(what.ends(record), ends, "{what:?} and {record:?}");
        }
    }
}

async fn what_has_ended_is_told(store: &dyn Store) {
    let user = name();
    let what = [
        End::Key(Key::from_bytes(random().unwrap())),
        End::User(Arc::clone(&user)),
        End::User(Arc::clone(&user)),
        End::IssuerSession {
            provider: "corp".into(),
            session_id: Arc::clone(&user),
        },
        End::Subject {
            provider: "corp".into(),
            subject: Arc::clone(&user),
        },
    ];
    for what in &what {
        let ended = store.end(what.clone()).await.unwrap();
        assert_eq!(ended, 0, "what no store has can be ended too");
    }
    let told = store.ended(Duration::from_secs(60)).await.unwrap();
    for what in &what {
        let wanted = if *what == End::User(Arc::clone(&user)) {
            2
        } else {
            1
        };
        let mut ids: Vec<u64> = told
            .iter()
            .filter(|ended| ended.what == *what)
            .map(|ended| ended.id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(
            ids.len(),
            wanted,
            "{what:?} is told as often as it was said"
        );
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    let told = store.ended(Duration::from_millis(20)).await.unwrap();
    let is_of_user = |what: &End| *what == End::User(Arc::clone(&user));
    assert!(!told.iter().any(|ended| is_of_user(&ended.what)), "too old");
}

async fn who_is_disabled_is_known(store: &dyn Store) {
    let user = name();
    let session = kept(store, &record(&user, Kind::Session)).await;
    for _ in 0..2 {
        store.set_disabled(&user, true).await.unwrap();
        let disabled = store.disabled().await.unwrap();
        let times = disabled.iter().filter(|other| **other == user).count();
        assert_eq!(times, 1, "disabled once, however often it is said");
    }
    assert!(!is_there(store, session.key).await, "all of theirs ends");
    store.set_disabled(&user, false).await.unwrap();
    assert!(!store.disabled().await.unwrap().contains(&user));
    let told = store.ended(Duration::from_secs(60)).await.unwrap();
    for what in [End::Disabled(Arc::clone(&user)), End::Enabled(user)] {
        assert!(told.iter().any(|ended| ended.what == what), "{what:?}");
    }
    let other = Identity::builder("issuer", "somebody").build();
    assert!(!End::Disabled(name()).ends_identity(&other));
}

async fn a_claim_is_the_first_ones(store: &dyn Store) {
    let what = Key::from_bytes(random().unwrap());
    assert!(store.claim(what, later(60)).await.unwrap());
    assert!(
        !store.claim(what, later(60)).await.unwrap(),
        "claimed twice"
    );
    let short = Key::from_bytes(random().unwrap());
    let soon = now() + Duration::from_millis(150);
    assert!(store.claim(short, soon).await.unwrap());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(store.claim(short, later(60)).await.unwrap(), "it was over");
}

async fn of_many_at_once_one_succeeds(store: &dyn Store) {
    let kept = kept(store, &record(&name(), Kind::Session)).await;
    let what = Key::from_bytes(random().unwrap());
    let claims = join_all((0..50).map(|_| store.claim(what, later(60)))).await;
    let long = Duration::from_secs(60);
    let leases = join_all((0..50).map(|holder| store.lease(kept.key, holder, long))).await;
    let leases = leases
        .into_iter()
        .map(|lease| lease.map(Lease::is_held))
        .collect();
    let replaced =
        join_all((0..50).map(|_| store.replace(kept.key, 0, Bytes::from_static(b"n")))).await;
    for (what, answers) in [("claim", claims), ("lease", leases), ("replace", replaced)] {
        let won = answers
            .into_iter()
            .filter(|answer| *answer.as_ref().unwrap());
        assert_eq!(won.count(), 1, "{what}: exactly one of fifty");
    }
}
