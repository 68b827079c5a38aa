//! The months that the table is partitioned by.

use tokio::task::JoinSet;
use tower_usage::postgres::{PostgresLedger, Shipper};

use crate::support::{DAY, Database, always, model_call, open, record, time};

/// Ships these times from a file of its own.
async fn ship(to: &PostgresLedger, times: impl IntoIterator<Item = i64>) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let shipper = Shipper::start(&ledger, to).await.unwrap();
    for at in times {
        let distance = std::time::Duration::from_secs(at.unsigned_abs());
        let epoch = time(0);
        let at = if at < 0 {
            epoch - distance
        } else {
            epoch + distance
        };
        record(&ledger, model_call("alice", at, 1)).await;
    }
    ledger.flush().await.unwrap();
    shipper.flush().await.unwrap();
    let backlog = shipper.backlog().unwrap();
    assert_eq!((backlog.records, backlog.refused), (0, 0));
    ledger
        .sum(None::<&str>, time(0), time(1 << 35))
        .unwrap()
        .records
}

const PARTITIONS: &str =
    "SELECT count(*) FROM pg_inherits WHERE inhparent = 'token_usage_logs'::regclass";

#[tokio::test]
async fn wild_times_make_no_months_and_are_shipped() {
    let Some(database) = Database::new().await else {
        return;
    };
    let year = 31_556_952_i64;
    let wild = [
        -12_000 * year,
        -year,
        0,
        1,
        20 * year,
        // 2033 to 9999 and beyond what Postgres knows.
        63 * year,
        100 * year,
        8_029 * year,
        400_000 * year,
        i64::from(u32::MAX) * 200,
    ];
    let many = (0..2_000_i64).map(|n| n * year);
    ship(&database.ledger(), wild.into_iter().chain(many)).await;
    let stored = "SELECT count(*) FROM token_usage_logs";
    assert_eq!(database.count(stored).await, 2_010);
    let months = database.count(PARTITIONS).await;
    // The other one, now, the next one, and one each of the years since 2020.
    assert!((3..=40).contains(&months), "{months}");
    database.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_make_the_tables_and_the_same_months_at_once() {
    const SERVERS: u64 = 6;
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    let mut servers = JoinSet::new();
    for _ in 0..SERVERS {
        let to = to.clone();
        servers.spawn(async move {
            let first = i64::try_from(DAY).unwrap();
            ship(&to, (0..24).map(|n| first - n * 31 * 86_400)).await
        });
    }
    servers.join_all().await;
    let (from, until) = always();
    let sum = to.sum("alice", from, until).await.unwrap();
    assert_eq!(sum.records, SERVERS * 24);
    let elsewhere = "SELECT count(*) FROM token_usage_logs_other";
    assert_eq!(database.count(elsewhere).await, 0);
    let names = "SELECT count(*) FROM pg_class WHERE relname = 'token_usage_logs_2025_10'";
    assert_eq!(database.count(names).await, 1);
    database.end().await;
}

#[tokio::test]
async fn what_came_too_early_is_moved_when_its_month_is_made() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    let first = i64::try_from(DAY).unwrap();
    ship(&to, [first]).await;
    // As if it had come before its month could be made.
    database
        .run(
            "ALTER TABLE token_usage_logs DETACH PARTITION token_usage_logs_2025_10;
             INSERT INTO token_usage_logs SELECT * FROM token_usage_logs_2025_10;
             DROP TABLE token_usage_logs_2025_10",
        )
        .await;
    let other = "SELECT count(*) FROM token_usage_logs_other";
    assert_eq!(database.count(other).await, 1);
    ship(&to, [first + 1]).await;
    assert_eq!(database.count(other).await, 0);
    let there = "SELECT count(*) FROM token_usage_logs_2025_10";
    assert_eq!(database.count(there).await, 2);
    database.end().await;
}

#[tokio::test]
async fn a_month_that_was_detached_stays_so_and_its_late_records_are_kept_beside() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    let first = i64::try_from(DAY).unwrap();
    ship(&to, [first]).await;
    database
        .run("ALTER TABLE token_usage_logs DETACH PARTITION token_usage_logs_2025_10")
        .await;
    ship(&to, [first + 1]).await;
    let (from, until) = always();
    assert_eq!(to.sum("alice", from, until).await.unwrap().records, 1);
    let other = "SELECT count(*) FROM token_usage_logs_other";
    assert_eq!(database.count(other).await, 1);
    database.end().await;
}

#[tokio::test]
async fn a_reader_that_takes_long_delays_a_month_and_no_record() {
    let Some(mut database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    to.migrate().await.unwrap();
    let reader = database.client.transaction().await.unwrap();
    reader
        .query("SELECT count(*) FROM token_usage_logs", &[])
        .await
        .unwrap();
    let first = i64::try_from(DAY).unwrap();
    ship(&to, [first]).await;
    reader.rollback().await.unwrap();
    let other = "SELECT count(*) FROM token_usage_logs_other";
    assert_eq!(database.count(other).await, 1);
    ship(&to, [first + 1]).await;
    assert_eq!(database.count(other).await, 0, "moved by the next one");
    database.end().await;
}

#[tokio::test]
async fn whoever_may_not_make_months_ships_beside_them() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    to.migrate().await.unwrap();
    let role = format!("shipper_{}", std::process::id());
    database
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x';
             GRANT SELECT ON token_usage_schema TO {role};
             GRANT SELECT, INSERT, UPDATE ON token_usage_logs, token_usage_ledgers TO {role}"
        ))
        .await;
    let (host, port) = database.address();
    let name = database.url.rsplit('/').next().unwrap();
    let url = format!("postgres://{role}:x@{host}:{port}/{name}");
    ship(
        &PostgresLedger::new(&url).unwrap(),
        [i64::try_from(DAY).unwrap()],
    )
    .await;
    let other = "SELECT count(*) FROM token_usage_logs_other";
    assert_eq!(database.count(other).await, 1);
    database
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
    database.end().await;
}
