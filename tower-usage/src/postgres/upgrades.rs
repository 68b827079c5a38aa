//! Databases of each earlier version, with records in them, become as new ones and keep what they have; files of each are
//! shipped.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use tokio_postgres::Client;

use super::{
    Shipper,
    month::{Month, make_one},
    schema::{SCHEMA, migrate, migrate_to},
    testing::Database,
};
use crate::{
    UsageRecord,
    sqlite::{
        LedgerOptions, SCHEMA as OF_FILE, SqliteLedger,
        upgrades::{
            Columns, DAY, FIRST, HOUR, KEYED, PRICED, insert, make_file, names, rate, records_of,
            with_everything,
        },
    },
};

/// One of a month that is made, one of a time for which there is none.
const OF_MONTH: Columns = (
    "id, ledger, number, admitted_at, created_at",
    "'00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-00000000000f', 7,
     timestamptz '2025-10-09 00:00:00+00', timestamptz '2025-10-09 00:00:09+00'",
);
const OF_OTHER: Columns = (
    OF_MONTH.0,
    "'00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-00000000000f', 8,
     timestamptz '1970-01-02 00:00:00+00', timestamptz '1970-01-02 00:00:09+00'",
);

/// Which columns of a record this version has.
fn columns(version: usize) -> impl Iterator<Item = Columns> {
    let since = [(1, FIRST), (1, PRICED), (2, HOUR), (3, KEYED)];
    let there = since
        .into_iter()
        .filter(move |(since, _)| *since <= version);
    there.map(|(_, columns)| columns)
}

/// What each version added beside columns. What is of a month is compared with that of a new one.
const ADDED: [&[&str]; SCHEMA.len()] = [
    &[
        "token_usage_logs",
        "token_usage_logs_pkey",
        "token_usage_logs_by_user",
        "token_usage_logs_by_time",
        "token_usage_logs_by_response",
        "token_usage_logs_unpriced",
        "token_usage_ledgers",
        "token_usage_ledgers_pkey",
    ],
    &[],
    &[],
    &[
        "token_usage_answers",
        "token_usage_answers_pkey",
        "token_usage_answers_by_time",
    ],
];

/// What a version has room for first, and what there is one of ever after.
const KEPT: [(usize, &str, &str); 4] = [
    (
        1,
        "",
        "token_usage_logs_2025_10 WHERE number = 7 AND ledger = '00000000-0000-0000-0000-00000000000f'
            AND total_tokens = 15",
    ),
    (1, "", "token_usage_logs_other WHERE number = 8"),
    (
        1,
        "INSERT INTO token_usage_ledgers VALUES ('00000000-0000-0000-0000-00000000000f', 8, 3, to_timestamp(9))",
        "token_usage_ledgers WHERE ledger = '00000000-0000-0000-0000-00000000000f' AND up_to = 8 AND changes = 3
            AND shipped_at = to_timestamp(9)",
    ),
    (
        4,
        r"INSERT INTO token_usage_answers VALUES ('\x01', '00000000-0000-0000-0000-000000000001', 2, to_timestamp(10))",
        r"token_usage_answers WHERE name = '\x01' AND record = '00000000-0000-0000-0000-000000000001' AND claims = 2
            AND claimed_at = to_timestamp(10)",
    ),
];

/// Makes tables as this version had them, and rows in them.
async fn make_tables(client: &mut Client, version: usize) {
    migrate_to(client, version).await.unwrap();
    if version == 0 {
        return;
    }
    make_one(client, Month::of(day())).await.unwrap();
    for own in [OF_MONTH, OF_OTHER] {
        let row: Vec<_> = columns(version).chain([own]).collect();
        let there = "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'token_usage_logs'";
        let there: BTreeSet<_> = strings(client, there).await.into_iter().collect();
        assert_eq!(there, names(&row), "{version}");
        let insert = insert("token_usage_logs", &row);
        client.batch_execute(&insert).await.unwrap();
    }
    for (since, rows, _) in KEPT {
        if since <= version {
            client.batch_execute(rows).await.unwrap();
        }
    }
}

/// What is to be read of them, the latest first.
fn records_there(version: usize) -> Vec<UsageRecord> {
    if version == 0 {
        return Vec::new();
    }
    let early = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    let mut records = vec![with_everything(1, day()), with_everything(2, early)];
    for record in &mut records {
        if version < 3 {
            record.idempotency_key = None;
        }
        if version < 2 {
            record.tokens.cache_write_1h = None;
            record.rate = Some(rate());
        }
    }
    records
}

fn day() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(DAY)
}

/// Since and until which there is everything.
fn always() -> (SystemTime, SystemTime) {
    let epoch = SystemTime::UNIX_EPOCH;
    (epoch, epoch + Duration::from_secs(1 << 35))
}

async fn strings(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn schema_of(client: &Client) -> Vec<String> {
    strings(
        client,
        "SELECT table_name || '.' || column_name || ' ' || ordinal_position || ' ' || data_type || ' ' || is_nullable
            || ' ' || coalesce(column_default, '')
        FROM information_schema.columns WHERE table_schema = current_schema()
        UNION ALL SELECT relname || ' ' || relkind::text || ' ' || coalesce(pg_get_expr(relpartbound, oid), '')
            FROM pg_class WHERE relnamespace = current_schema()::regnamespace
        UNION ALL SELECT inhrelid::regclass || ' of ' || inhparent::regclass FROM pg_inherits
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = current_schema()::regnamespace
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        ORDER BY 1",
    )
    .await
}

/// All rows, and which transaction wrote each.
async fn rows_of(client: &Client) -> Vec<String> {
    let tables = ["schema", "logs", "ledgers", "answers"];
    let rows = tables.map(|table| {
        format!("SELECT row.xmin || ' ' || row::text FROM token_usage_{table} AS row")
    });
    strings(client, &format!("{} ORDER BY 1", rows.join(" UNION ALL "))).await
}

#[tokio::test]
async fn each_version_has_what_it_and_those_before_it_added() {
    let Some(mut database) = Database::new().await else {
        return;
    };
    for version in 0..=SCHEMA.len() {
        migrate_to(&mut database.client, version).await.unwrap();
        let added = ADDED.iter().take(version).copied().flatten();
        let mut added: Vec<_> = added.copied().chain(["token_usage_schema"]).collect();
        added.sort_unstable();
        let there = r#"SELECT relname::text FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND NOT relispartition ORDER BY relname COLLATE "C""#;
        let there = strings(&database.client, there).await;
        assert_eq!(there, added, "{version}");
    }
    database.end().await;
}

#[tokio::test]
async fn databases_of_each_earlier_version_become_as_new_ones_and_stay_right() {
    let Some(mut new) = Database::new().await else {
        return;
    };
    migrate(&mut new.client).await.unwrap();
    make_one(&mut new.client, Month::of(day())).await.unwrap();
    let schema = schema_of(&new.client).await;
    assert!(schema.len() > 100, "{schema:?}");
    new.end().await;
    for version in 0..=SCHEMA.len() {
        let Some(mut database) = Database::new().await else {
            return;
        };
        let client = &mut database.client;
        make_tables(client, version).await;
        migrate(client).await.unwrap();
        if version == 0 {
            make_one(client, Month::of(day())).await.unwrap();
        }
        assert_eq!(schema_of(client).await, schema, "{version}");
        for (_, _, is) in KEPT.iter().filter(|(since, ..)| *since <= version) {
            let count = format!("SELECT count(*) FROM {is}");
            let count: i64 = client.query_one(&count, &[]).await.unwrap().get(0);
            assert_eq!(count, 1, "{version}: {is}");
        }

        let rows = rows_of(client).await;
        migrate(client).await.unwrap();
        assert_eq!(schema_of(client).await, schema, "{version}");
        assert_eq!(rows_of(client).await, rows, "{version}");

        let (ledger, (from, to)) = (database.ledger(), always());
        let records = ledger.records("alice", from, to, 10, None).await.unwrap();
        assert_eq!(records, records_there(version), "{version}");
        let sum = ledger.sum("alice", from, to).await.unwrap();
        let of = records.len() as u64;
        assert_eq!((sum.records, sum.total_tokens), (of, 15 * of), "{version}");
        let hours = if version < 2 { 0 } else { 4 * of };
        assert_eq!(sum.cache_write_1h_tokens, hours, "{version}");
        // What is recorded costs what it was priced at.
        assert_eq!(sum.cost.as_nanos(), -5 * records.len() as i64, "{version}");
        database.end().await;
    }
}

#[tokio::test]
async fn files_of_each_earlier_version_are_shipped() {
    for version in 0..=OF_FILE.len() {
        let Some(database) = Database::new().await else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        drop(make_file(&path, version));
        let (ledger, to) = (
            SqliteLedger::open(&path, LedgerOptions::new()).unwrap(),
            database.ledger(),
        );
        let shipper = Shipper::start(&ledger, &to).await.unwrap();
        shipper.flush().await.unwrap();
        let (from, until) = always();
        let there = to.records("alice", from, until, 10, None).await.unwrap();
        assert_eq!(there, records_of(version), "{version}");
        database.end().await;
    }
}
