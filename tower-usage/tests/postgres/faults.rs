//! What a server that goes away, hangs or is no server does to shipping, and to nothing else.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tower_usage::{
    postgres::{PostgresLedger, Shipper},
    sqlite::LedgerError,
};

use crate::{
    support::{DAY, Database, always, model_call, open, record, time},
    wire::{State, Wire},
};

const SOON: Duration = Duration::from_secs(20);

/// A ledger by the wire, which gives up after a moment.
fn by(wire: &Wire, database: &Database) -> PostgresLedger {
    let ledger = PostgresLedger::new(&database.url_by(wire.port)).unwrap();
    // Without optimisation a password takes long to be proved.
    ledger.timeout(Duration::from_secs(3))
}

async fn flush(shipper: &Shipper) -> Result<(), tokio::time::error::Elapsed> {
    tokio::time::timeout(SOON, shipper.flush())
        .await
        .map(Result::unwrap)
}

#[tokio::test]
async fn d5_52_a_server_that_hangs_or_is_gone_keeps_nothing_waiting_but_shipping() {
    let Some(database) = Database::new().await else {
        return;
    };
    let wire = Wire::to(&database).await;
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), by(&wire, &database));
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    flush(&shipper).await.unwrap();
    let mut stored = 0;
    for state in [State::Silent, State::Cut] {
        wire.set(state);
        let begun = Instant::now();
        while shipper.healthy() {
            record(&ledger, model_call("alice", time(DAY), 1)).await;
            stored += 1;
            let written = Instant::now();
            ledger.flush().await.unwrap();
            assert!(written.elapsed() < Duration::from_secs(2));
            let backlog = shipper.backlog().unwrap();
            assert!(backlog.records > 0 && backlog.age > Duration::from_secs(86_400));
            assert!(begun.elapsed() < SOON);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (from, until) = always();
        let begun = Instant::now();
        let error = to.sum("alice", from, until).await.unwrap_err();
        assert!(matches!(error, LedgerError::Unavailable(_)), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        wire.set(State::Open);
        flush(&shipper).await.unwrap();
        assert_eq!(to.sum("alice", from, until).await.unwrap().records, stored);
        while !shipper.healthy() {
            tokio::task::yield_now().await;
        }
    }
    database.end().await;
}

#[tokio::test]
async fn d5_55_commits_whose_answers_are_lost_store_each_record_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let wire = Wire::to(&database).await;
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), by(&wire, &database));
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    flush(&shipper).await.unwrap();
    let (from, until) = always();
    for round in 1..=4 {
        for n in 0..500 {
            record(&ledger, model_call("alice", time(DAY), n)).await;
        }
        ledger.flush().await.unwrap();
        wire.set(State::Unanswered);
        let waited = tokio::time::timeout(Duration::from_millis(300), shipper.flush()).await;
        assert!(waited.is_err(), "nobody was told");
        assert_eq!(wire.state(), State::Cut, "it was committed");
        wire.set(State::Open);
        flush(&shipper).await.unwrap();
        let sum = to.sum("alice", from, until).await.unwrap();
        assert_eq!(sum, ledger.sum("alice", from, until).unwrap());
        assert_eq!(sum.records, round * 500);
    }
    database.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_55_connections_that_the_server_ends_lose_and_double_nothing() {
    const RECORDS: u64 = 20_000;
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    let mut ended = 0;
    for n in 0..RECORDS {
        record(&ledger, model_call("alice", time(DAY + n), n)).await;
        if n % 1_000 == 0 {
            ledger.flush().await.unwrap();
            let some = Duration::from_millis(n / 1_000 * 7 % 60);
            let _ = tokio::time::timeout(some, shipper.flush()).await;
            ended += database.terminate_others().await;
        }
    }
    println!("{ended} connections ended");
    assert!(ended > 5);
    ledger.flush().await.unwrap();
    flush(&shipper).await.unwrap();
    let (from, until) = always();
    let sum = to.sum("alice", from, until).await.unwrap();
    assert_eq!(sum, ledger.sum("alice", from, until).unwrap());
    assert_eq!(sum.records, RECORDS);
    database.end().await;
}

#[tokio::test]
async fn a_ledger_is_opened_and_shipped_before_its_database_is_there() {
    let Some(database) = Database::new().await else {
        return;
    };
    let wire = Wire::to(&database).await;
    wire.set(State::Cut);
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), by(&wire, &database));
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    record(&ledger, model_call("alice", time(DAY), 1)).await;
    ledger.flush().await.unwrap();
    while shipper.healthy() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(shipper.backlog().unwrap().records, 1);
    wire.set(State::Open);
    flush(&shipper).await.unwrap();
    assert_eq!(shipper.backlog().unwrap().records, 0);
    database.end().await;
}

#[tokio::test]
async fn a_lock_that_another_session_holds_is_waited_for_within_the_bound() {
    let Some(mut database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let to = database.ledger().timeout(Duration::from_secs(2));
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    flush(&shipper).await.unwrap();
    let holder = database.client.transaction().await.unwrap();
    let lock = "LOCK TABLE token_usage_logs IN ACCESS EXCLUSIVE MODE";
    holder.batch_execute(lock).await.unwrap();
    record(&ledger, model_call("alice", time(DAY), 1)).await;
    ledger.flush().await.unwrap();
    let begun = Instant::now();
    while shipper.healthy() {
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    holder.rollback().await.unwrap();
    flush(&shipper).await.unwrap();
    database.end().await;
}

#[tokio::test]
async fn what_keeps_it_from_connecting_is_said_without_the_password() {
    let Some(database) = Database::new().await else {
        return;
    };
    let (from, until) = always();
    for (url, wanted) in [
        ("postgres://x:sesame-17@127.0.0.1:1/d".to_owned(), "refused"),
        (
            "postgres://x:sesame-17@nowhere.invalid/d".to_owned(),
            "lookup",
        ),
        (
            "postgres://x:sesame-17@h/d?sslmode=full".to_owned(),
            "sslmode",
        ),
        ("mysql://x:sesame-17@h/d".to_owned(), "not Postgres's"),
        (
            database.url.replace("usage_test", "sesame"),
            "does not exist",
        ),
    ] {
        let asked = async {
            let ledger = PostgresLedger::new(&url)?.timeout(Duration::from_secs(1));
            let shown = format!("{ledger:?}");
            assert!(!shown.contains("sesame"), "{shown}");
            ledger.migrate().await?;
            ledger.sum("alice", from, until).await
        };
        let said = chain(&asked.await.unwrap_err());
        println!("{said}");
        assert!(said.contains(wanted), "{said}");
        assert!(!said.contains("sesame-17"), "{said}");
    }
    database.end().await;
}

#[tokio::test]
async fn d8_70_a_value_that_is_refused_is_in_no_error() {
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    let secret: String = (0..300)
        .map(|_| format!("sesame-17{}", tower_usage::RecordId::new()))
        .collect();
    record(&ledger, model_call(&secret, time(DAY), 1)).await;
    ledger.flush().await.unwrap();
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    flush(&shipper).await.unwrap();
    assert_eq!(shipper.backlog().unwrap().refused, 1);
    let conn = rusqlite::Connection::open(directory.path().join("ledger.db")).unwrap();
    let reason: String = conn
        .query_row("SELECT reason FROM token_usage_refused", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(
        reason.starts_with("54000") && !reason.contains("sesame"),
        "{reason}"
    );
    database.end().await;
}

#[tokio::test]
async fn a_schema_of_a_later_version_or_another_encoding_is_refused() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    to.migrate().await.unwrap();
    to.migrate().await.unwrap();
    database
        .run("UPDATE token_usage_schema SET version = 99")
        .await;
    let newer = to.migrate().await;
    assert!(matches!(
        newer,
        Err(LedgerError::NewerSchema { found: 99, .. })
    ));
    let latin = format!("latin_{}", std::process::id());
    database
        .run(&format!(
            "CREATE DATABASE {latin} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
        ))
        .await;
    let (url, _) = database.url.rsplit_once('/').unwrap();
    let ledger = PostgresLedger::new(&format!("{url}/{latin}")).unwrap();
    let error = ledger.migrate().await.unwrap_err();
    assert!(
        matches!(&error, LedgerError::Encoding(it) if it == "LATIN1"),
        "{error:?}"
    );
    database
        .run(&format!("DROP DATABASE {latin} WITH (FORCE)"))
        .await;
    database.end().await;
}

#[test]
fn it_is_send_and_so_are_its_futures() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<PostgresLedger>();
    shared::<Shipper>();
    shared::<tower_usage::postgres::Export>();
    fn send<T: Send>(_: T) {}
    let at: SystemTime = time(0);
    let ledger = PostgresLedger::new("postgres://h/d").unwrap();
    send(ledger.sum("alice", at, at));
    send(ledger.records("alice", at, at, 1, None));
    send(ledger.export("alice", at, at).next_page());
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let source = error.source().map(chain);
    source.map_or(error.to_string(), |source| format!("{error}: {source}"))
}
