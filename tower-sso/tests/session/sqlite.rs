//! A file that others write too, that is copied, and that is closed.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use rusqlite::Connection;
use tower_sso::session::{End, Kind, SqliteStore, Store as _};

use crate::support::record;

/// A lock on the file, as another process that writes has it.
fn lock(path: &Path) -> Connection {
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[tokio::test]
async fn a_file_that_another_holds_refuses_writes_in_time_and_is_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.db");
    let store = SqliteStore::open(&path).unwrap();
    let kept = record("alice", Kind::Session);
    store.insert(kept.clone()).await.unwrap();

    let other = lock(&path);
    let begun = Instant::now();
    let late: Vec<_> = (0..2_000).map(|_| record("alice", Kind::Session)).collect();
    let writing = async {
        let answers = join_all(late.iter().map(|record| store.insert(record.clone()))).await;
        assert!(answers.iter().all(Result::is_err), "the file is locked");
        begun.elapsed()
    };
    let reading = async {
        let mut slowest = Duration::ZERO;
        while begun.elapsed() < Duration::from_millis(1_500) {
            let asked = Instant::now();
            assert!(store.find(kept.key).await.unwrap().is_some());
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        slowest
    };
    let (written, slowest) = tokio::join!(writing, reading);
    println!("all refused after {written:?}, the slowest read took {slowest:?}");
    assert!(written < Duration::from_secs(3), "{written:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");

    drop(other);
    // For a moment those still wait whose answer has been given up.
    let again = Instant::now();
    while let Err(error) = store.insert(record("alice", Kind::Session)).await {
        assert!(again.elapsed() < Duration::from_secs(1), "{error:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for record in late {
        let found = store.find(record.key).await.unwrap();
        assert!(found.is_none(), "what was refused was done later");
    }
}

#[tokio::test]
async fn writes_wait_for_a_lock_that_is_gone_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.db");
    let store = SqliteStore::open(&path).unwrap();
    let other = lock(&path);
    let records: Vec<_> = (0..500).map(|_| record("alice", Kind::Session)).collect();
    let writing = join_all(records.iter().map(|record| store.insert(record.clone())));
    let unlocking = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(other);
    };
    let (written, ()) = tokio::join!(writing, unlocking);
    assert!(written.iter().all(Result::is_ok));
}

#[tokio::test]
async fn what_is_answered_is_in_the_file_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("a.db"), dir.path().join("b.db"));
    let store = SqliteStore::open(&path).unwrap();
    let records: Vec<_> = (0..700).map(|_| record("alice", Kind::Session)).collect();
    let answers = join_all(records.iter().map(|record| store.insert(record.clone()))).await;
    // As it lies there when nobody closes it.
    for ending in ["", "-wal"] {
        let name = |path: &Path| format!("{}{ending}", path.display());
        fs::copy(name(&path), name(&copy)).unwrap();
    }
    assert!(answers.iter().all(Result::is_ok));
    let again = SqliteStore::open(&copy).unwrap();
    for record in records {
        assert!(again.find(record.key).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn one_that_fails_changes_nothing_of_those_it_waited_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.db");
    let store = SqliteStore::open(&path).unwrap();
    let taken = record("alice", Kind::Session);
    store.insert(taken.clone()).await.unwrap();
    // They gather while the file is locked, and are one transaction then.
    let other = lock(&path);
    let records: Vec<_> = (0..40)
        .map(|n| match n % 4 {
            0 => taken.clone(),
            _ => record("bob", Kind::Session),
        })
        .collect();
    let writing = join_all(records.iter().map(|record| store.insert(record.clone())));
    let unlocking = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(other);
    };
    let (answers, ()) = tokio::join!(writing, unlocking);
    for (record, answer) in records.iter().zip(answers) {
        assert_eq!(answer.is_err(), record.key == taken.key);
        let found = store.find(record.key).await.unwrap().unwrap();
        assert_eq!(found.user_id, record.user_id);
    }
    assert_eq!(store.list("bob", Kind::Session).await.unwrap().len(), 30);
}

#[tokio::test]
async fn what_was_asked_is_done_though_nobody_waits_and_the_store_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.db");
    let store = SqliteStore::open(&path).unwrap();
    let kept = record("alice", Kind::Session);
    store.insert(kept.clone()).await.unwrap();
    let mut replacing = store.replace(kept.key, 0, Bytes::from_static(b"new"));
    let mut ending = store.end(End::User("bob".into()));
    // Begun, and left.
    let _ = (
        futures_util::poll!(&mut replacing),
        futures_util::poll!(&mut ending),
    );
    drop((replacing, ending, store));
    let again = SqliteStore::open(&path).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let version = again.find(kept.key).await.unwrap().unwrap().version;
        let ended = again.ended(Duration::from_secs(60)).await.unwrap().len();
        if (version, ended) == (1, 1) {
            break;
        }
        assert!(Instant::now() < deadline, "{version} {ended}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn its_threads_end_with_the_last_clone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("threads.db");
    let open = || {
        let files = fs::read_dir("/proc/self/fd").unwrap();
        let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        links.filter(|link| *link == path).count()
    };
    let store = SqliteStore::open(&path).unwrap();
    let clone = store.clone();
    drop(store);
    clone.disabled().await.unwrap();
    assert_eq!(open(), 2, "one connection reads, one writes");
    drop(clone);
    let deadline = Instant::now() + Duration::from_secs(5);
    while open() > 0 {
        assert!(Instant::now() < deadline, "a thread goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
