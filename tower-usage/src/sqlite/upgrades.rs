//! Files of each earlier version, with records in them, become as new ones and keep what they have.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, SystemTime},
};

use rusqlite::Connection;

use super::{
    LedgerOptions, SqliteLedger,
    schema::{SCHEMA, migrate, migrate_to},
};
use crate::{NanoUsd, Operation, Outcome, Price, Rate, RecordId, Source, UsageRecord};

/// Columns of a record, and what a row has there.
pub(crate) type Columns = (&'static str, &'static str);

/// What is the same in both databases: what there was at first, and what was added.
pub(crate) const FIRST: Columns = (
    "user_id, operation, provider, model, requested_model, session_key, run_id, response_id, input_tokens,
     output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, total_tokens, calls, cost_nano_usd, source,
     outcome, settle_ref",
    "'alice', 'run', 'p', 'm', 'r', 's', 'run', 'id', 1, 2, 3, 9, 1, 15, 4, -5, 'observed', 'failed', 'ticket'",
);
pub(crate) const PRICED: Columns = (
    "input_price, output_price, cache_read_price, cache_write_price, metadata",
    r#"1000, 2000, 500, 3000, '{"status": 529}'"#,
);
pub(crate) const HOUR: Columns = ("cache_write_1h_tokens, cache_write_1h_price", "4, 6000");
pub(crate) const KEYED: Columns = ("idempotency_key", "'hash'");

/// What a row with all of these is.
pub(crate) fn with_everything(id: u128, admitted_at: SystemTime) -> UsageRecord {
    let mut full = UsageRecord::new("alice".into(), Operation::Run);
    full.id = RecordId::from_u128(id);
    full.admitted_at = admitted_at;
    full.ended_at = admitted_at + Duration::from_secs(9);
    full.provider = Some("p".into());
    full.model = Some("m".into());
    full.requested_model = Some("r".into());
    full.session_key = Some("s".into());
    full.run_id = Some("run".into());
    full.response_id = Some("id".into());
    full.idempotency_key = Some("hash".into());
    full.tokens.input = Some(1);
    full.tokens.output = Some(2);
    full.tokens.cache_read = Some(3);
    full.tokens.cache_write = Some(9);
    full.tokens.cache_write_1h = Some(4);
    full.tokens.reasoning = Some(1);
    full.calls = 4;
    full.cost = Some(NanoUsd::from_nanos(-5));
    full.rate = Some(rate().cache_write_1h(Price::from_nanos_per_million(6_000)));
    full.source = Source::Observed;
    full.outcome = Outcome::Failed;
    full.metadata = Some(r#"{"status": 529}"#.into());
    full.settle_ref = Some("ticket".into());
    full
}

/// Its rate of before there was a price of an hour in the cache.
pub(crate) fn rate() -> Rate {
    let price = Price::from_nanos_per_million;
    Rate::new(price(1_000), price(2_000))
        .cache_read(price(500))
        .cache_write(price(3_000))
}

/// The statement that puts a row into a table.
pub(crate) fn insert(table: &str, columns: &[Columns]) -> String {
    let names: Vec<_> = columns.iter().map(|(names, _)| *names).collect();
    let values: Vec<_> = columns.iter().map(|(_, values)| *values).collect();
    let (names, values) = (names.join(", "), values.join(", "));
    format!("INSERT INTO {table} ({names}) VALUES ({values})")
}

/// The names of columns.
pub(crate) fn names(columns: &[Columns]) -> BTreeSet<String> {
    let names = columns.iter().flat_map(|(names, _)| names.split(','));
    names.map(|name| name.trim().to_owned()).collect()
}

/// When it was admitted, in seconds: midnight of 2025-10-09.
pub(crate) const DAY: u64 = 1_760_000_000 / 86_400 * 86_400;

/// What is of a file alone, of a record and of a call that nobody ended, which began a second earlier.
const LOGGED: Columns = (
    "seq, id, settled, admitted_at, created_at",
    "7, X'00000000000000000000000000000001', 0, 1759968000000, 1759968009000",
);
const BEGUN: Columns = (
    "id, settled, admitted_at, created_at",
    "X'00000000000000000000000000000002', 0, 1759967999000, 1759968008000",
);

/// Which columns of a record a file of this version has.
fn columns(version: usize) -> impl Iterator<Item = Columns> {
    let since = [(1, FIRST), (4, PRICED), (6, HOUR), (7, KEYED)];
    let there = since
        .into_iter()
        .filter(move |(since, _)| *since <= version);
    there.map(|(_, columns)| columns)
}

/// What each version added beside columns.
const ADDED: [&[&str]; SCHEMA.len()] = [
    &[
        "table token_usage_logs",
        "index token_usage_logs_by_user",
        "index token_usage_logs_by_time",
        "index token_usage_logs_by_response",
        "index token_usage_logs_unsettled",
    ],
    &["table token_usage_begun"],
    &["table token_usage_ledger", "table token_usage_marks"],
    &["index token_usage_logs_unpriced"],
    &[
        "table token_usage_shipped",
        "table token_usage_changed",
        "table token_usage_refused",
        "trigger token_usage_logs_changed",
    ],
    &[],
    &["index token_usage_logs_by_key"],
];

/// What a version has room for first, and what there is one of ever after.
const KEPT: [(usize, &str, &[&str]); 4] = [
    (
        1,
        "",
        &["token_usage_logs WHERE seq = 7 AND settled = 0 AND total_tokens = 15"],
    ),
    (
        3,
        "INSERT INTO token_usage_marks VALUES ('counters', 7, 8)",
        &[
            "token_usage_ledger",
            "token_usage_marks WHERE name = 'counters' AND number = 7 AND marked_at = 8",
        ],
    ),
    (
        5,
        "INSERT INTO token_usage_shipped VALUES (7, 2); INSERT INTO token_usage_changed VALUES (3, 7, 9)",
        &[
            "token_usage_shipped WHERE up_to = 7 AND changes = 2",
            "token_usage_changed",
            "token_usage_changed WHERE version = 3 AND seq = 7 AND changed_at = 9",
            // No version is given twice.
            "sqlite_sequence WHERE name = 'token_usage_changed' AND seq = 3",
        ],
    ),
    (
        5,
        "INSERT INTO token_usage_refused VALUES (5, 'why', 10)",
        &["token_usage_refused WHERE seq = 5 AND reason = 'why' AND refused_at = 10"],
    ),
];

/// Makes a file as this version left it when it was killed.
pub(crate) fn make_file(path: &Path, version: usize) -> Connection {
    let mut file = Connection::open(path).unwrap();
    migrate_to(&mut file, version).unwrap();
    for (since, table, own) in [
        (1, "token_usage_logs", LOGGED),
        (2, "token_usage_begun", BEGUN),
    ] {
        if since <= version {
            let row: Vec<_> = columns(version).chain([own]).collect();
            assert_eq!(names_of(&file, table), names(&row), "{table} of {version}");
            file.execute(&insert(table, &row), []).unwrap();
        }
    }
    for (since, rows, _) in KEPT {
        if since <= version {
            file.execute_batch(rows).unwrap();
        }
    }
    file
}

/// What is to be read of it, the latest first.
pub(crate) fn records_of(version: usize) -> Vec<UsageRecord> {
    let admitted_at = SystemTime::UNIX_EPOCH + Duration::from_secs(DAY);
    let mut logged = with_everything(1, admitted_at);
    if version < 7 {
        logged.idempotency_key = None;
    }
    if version < 6 {
        logged.tokens.cache_write_1h = None;
        logged.rate = Some(rate());
    }
    if version < 4 {
        logged.rate = None;
        logged.metadata = None;
    }
    let mut begun = logged.clone();
    begun.id = RecordId::from_u128(2);
    begun.admitted_at -= Duration::from_secs(1);
    begun.ended_at -= Duration::from_secs(1);
    let records = [(1, logged), (2, begun)].into_iter();
    let there = records.filter(|(since, _)| *since <= version);
    there.map(|(_, record)| record).collect()
}

fn strings(file: &Connection, query: &str) -> Vec<String> {
    let mut query = file.prepare(query).unwrap();
    let rows = query.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn names_of(file: &Connection, table: &str) -> BTreeSet<String> {
    let query = format!("SELECT name FROM pragma_table_info('{table}')");
    strings(file, &query).into_iter().collect()
}

fn schema_of(file: &Connection) -> Vec<String> {
    strings(
        file,
        "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_master ORDER BY 1",
    )
}

fn assert_is_kept(file: &Connection, version: usize) {
    for (_, _, kept) in KEPT.iter().filter(|(since, ..)| *since <= version) {
        for is in *kept {
            let count = format!("SELECT count(*) FROM {is}");
            let count: u32 = file.query_row(&count, [], |row| row.get(0)).unwrap();
            assert_eq!(count, 1, "{version}: {is}");
        }
    }
}

#[test]
fn each_version_has_what_it_and_those_before_it_added() {
    for version in 0..=SCHEMA.len() {
        let mut file = Connection::open_in_memory().unwrap();
        migrate_to(&mut file, version).unwrap();
        let added = ADDED.iter().take(version).copied().flatten();
        let mut added: Vec<_> = added.copied().chain(["table token_usage_schema"]).collect();
        added.sort_unstable();
        let there = "SELECT type || ' ' || name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1";
        assert_eq!(strings(&file, there), added, "{version}");
    }
}

#[tokio::test]
async fn d5_55_files_of_each_earlier_version_become_as_new_ones_and_stay_right() {
    let directory = tempfile::tempdir().unwrap();
    let mut new = Connection::open_in_memory().unwrap();
    migrate(&mut new).unwrap();
    let schema = schema_of(&new);
    for version in 0..=SCHEMA.len() {
        let path = directory.path().join(format!("{version}.db"));
        let mut file = make_file(&path, version);
        let id = "SELECT hex(id) FROM token_usage_ledger";
        let id_before = (version >= 3).then(|| strings(&file, id));
        migrate(&mut file).unwrap();
        assert_eq!(schema_of(&file), schema, "{version}");
        assert_is_kept(&file, version);
        let id_after = strings(&file, id);
        assert_eq!(id_before.unwrap_or_else(|| id_after.clone()), id_after);
        assert_eq!(strings(&file, "PRAGMA integrity_check"), ["ok"]);

        // Counted by SQLite: how often the schema was changed, and rows were.
        let changes = |file: &Connection| {
            let schema = file.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0));
            (schema.unwrap(), file.total_changes())
        };
        let before = changes(&file);
        migrate(&mut file).unwrap();
        assert_eq!(changes(&file), before, "{version}");

        let ledger = SqliteLedger::open(&path, LedgerOptions::new()).unwrap();
        let (from, to) = (
            SystemTime::UNIX_EPOCH,
            super::row::time(i64::from(u32::MAX) * 1_000),
        );
        let records = ledger.records("alice", from, to, 10, None).unwrap();
        assert_eq!(records, records_of(version), "{version}");
        let sum = ledger.sum("alice", from, to).unwrap();
        let of = records.len() as u64;
        assert_eq!((sum.records, sum.total_tokens), (of, 15 * of), "{version}");
        let hours = if version < 6 { 0 } else { 4 * of };
        assert_eq!(
            (sum.cache_write_tokens, sum.cache_write_1h_tokens),
            (9 * of, hours)
        );
        // What is recorded costs what it was priced at.
        assert_eq!(sum.cost.as_nanos(), -5 * records.len() as i64, "{version}");
        ledger.close().await.unwrap();
        assert_is_kept(&file, version);
    }
}
