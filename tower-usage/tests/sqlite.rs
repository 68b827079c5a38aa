//! The ledger in an SQLite file: nothing is lost, nothing is settled twice.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Wake, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rusqlite::Connection;
use tempfile::TempDir;
use tower_usage::{
    Clock, Full, NanoUsd, Operation, Outcome, Place, Rate, RecordId, Sink, Source, SystemClock,
    UsageRecord,
    sqlite::{
        Group, GroupBy, LedgerError, LedgerOptions, Settle, SettleError, SettleFuture, SqliteLedger,
    },
};

mod support;
use support::time;

const DAY: u64 = 86_400;

fn open(directory: &TempDir) -> Arc<SqliteLedger> {
    open_with(directory, LedgerOptions::new())
}

fn open_with(directory: &TempDir, options: LedgerOptions) -> Arc<SqliteLedger> {
    SqliteLedger::open(path(directory.path()), options).unwrap()
}

fn path(directory: &Path) -> std::path::PathBuf {
    directory.join("ledger.db")
}

fn model_call(user: &str, at: SystemTime, tokens: u64) -> UsageRecord {
    let mut record = UsageRecord::new(user.into(), Operation::ModelCall);
    record.admitted_at = at;
    record.ended_at = at + Duration::from_millis(1_500);
    record.tokens.input = Some(tokens);
    record.cost = Some(NanoUsd::from_nanos(i64::try_from(tokens).unwrap() * 10));
    record
}

fn to_settle(user: &str, tokens: u64) -> UsageRecord {
    let mut record = model_call(user, time(DAY), tokens);
    record.settle_ref = Some(format!("ticket-{}", record.id).into());
    record
}

fn record(ledger: &Arc<SqliteLedger>, record: UsageRecord) {
    Place::take(ledger.clone() as Arc<dyn Sink>)
        .unwrap()
        .record(record);
}

fn count(directory: &TempDir, condition: &str) -> i64 {
    let conn = Connection::open(path(directory.path())).unwrap();
    let query = format!("SELECT count(*) FROM token_usage_logs WHERE {condition}");
    conn.query_row(&query, [], |row| row.get(0)).unwrap()
}

/// Counts how often each record is settled, after failing so many times.
#[derive(Default)]
struct Counting {
    settled: Mutex<HashMap<RecordId, u32>>,
    failures: AtomicU32,
    refuses: bool,
}

impl Counting {
    fn settled(&self) -> HashMap<RecordId, u32> {
        self.settled.lock().unwrap().clone()
    }
}

impl Settle for Counting {
    fn settle(&self, record: &UsageRecord) -> SettleFuture {
        let fails = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fails.is_ok() {
            return SettleFuture::ready(Err(SettleError::Unavailable("store is away".into())));
        }
        if self.refuses {
            return SettleFuture::boxed(async {
                Err(SettleError::Refused("no such ticket".into()))
            });
        }
        *self.settled.lock().unwrap().entry(record.id).or_default() += 1;
        SettleFuture::ready(Ok(()))
    }
}

#[tokio::test]
async fn reads_back_every_field() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut full = UsageRecord::new("alice".into(), Operation::Run);
    full.admitted_at = time(DAY) + Duration::from_millis(7);
    full.ended_at = time(DAY + 9);
    full.provider = Some("p".into());
    full.model = Some("m".into());
    full.requested_model = Some("r".into());
    full.response_id = Some("id".into());
    full.idempotency_key = Some("hash".into());
    full.run_id = Some("run".into());
    full.session_key = Some("s".into());
    full.tokens.input = Some(1);
    full.tokens.output = Some(2);
    full.tokens.cache_read = Some(3);
    full.tokens.cache_write = Some(9);
    full.tokens.cache_write_1h = Some(4);
    full.tokens.reasoning = Some(1);
    full.calls = 4;
    full.cost = Some(NanoUsd::from_nanos(-5));
    let rate = Rate::new("1".parse().unwrap(), "2".parse().unwrap());
    full.rate = Some(rate.cache_write_1h("5".parse().unwrap()));
    full.source = Source::Observed;
    full.outcome = Outcome::Refused;
    full.settle_ref = Some("ticket".into());
    let mut empty = UsageRecord::new("alice".into(), Operation::ModelCall);
    empty.admitted_at = time(DAY);
    empty.ended_at = time(DAY);
    empty.rate = Some(rate);
    record(&ledger, full.clone());
    record(&ledger, empty.clone());
    ledger.flush().await.unwrap();
    assert_eq!(
        ledger
            .records("alice", time(0), time(9 * DAY), 10, None)
            .unwrap(),
        [full, empty]
    );
    let sum = ledger.sum("alice", time(0), time(9 * DAY)).unwrap();
    assert_eq!((sum.cache_write_tokens, sum.cache_write_1h_tokens), (9, 4));
}

#[tokio::test]
async fn stores_a_record_once_by_its_id() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let settle = Arc::new(Counting::default());
    ledger.start_settling(settle.clone()).unwrap();
    let once = to_settle("alice", 5);
    record(&ledger, once.clone());
    ledger.flush().await.unwrap();
    record(&ledger, once.clone());
    ledger.flush().await.unwrap();
    assert_eq!(
        ledger
            .sum("alice", time(0), time(9 * DAY))
            .unwrap()
            .total_tokens,
        5
    );
    assert_eq!(settle.settled(), HashMap::from([(once.id, 1)]));
    assert_eq!(ledger.backlog(), 0);
}

#[tokio::test]
async fn refuses_admission_when_every_place_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_with(&directory, LedgerOptions::new().capacity(2));
    let sink: Arc<dyn Sink> = ledger.clone();
    let first = Place::take(sink.clone()).unwrap();
    let second = Place::take(sink.clone()).unwrap();
    assert_eq!(Place::take(sink.clone()).unwrap_err(), Full::new());
    drop(first);
    let first = Place::take(sink.clone()).unwrap();
    first.record(model_call("alice", time(DAY), 1));
    second.record(model_call("alice", time(DAY), 1));
    ledger.flush().await.unwrap();
    assert!(Place::take(sink).is_ok(), "what is stored makes room");
}

/// What a process that is killed now would leave.
fn crashed(directory: &TempDir) -> TempDir {
    let left = tempfile::tempdir().unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        let from = directory.path().join(name);
        if from.exists() {
            std::fs::copy(from, left.path().join(name)).unwrap();
        }
    }
    left
}

async fn begin(ledger: &Arc<SqliteLedger>, record: &UsageRecord) -> Place {
    let mut place = Place::take(ledger.clone() as Arc<dyn Sink>).unwrap();
    place.begin(record).await.unwrap();
    place
}

#[tokio::test]
async fn d5_49_a_call_that_nobody_ended_is_recorded_as_it_began_and_settled_once() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut call = to_settle("alice", 70);
    call.outcome = Outcome::Aborted;
    call.source = Source::Estimated;
    let _in_flight = begin(&ledger, &call).await;
    assert_eq!(count(&directory, "true"), 0, "not while it is answered");

    let left = crashed(&directory);
    for restarts in 1..=2 {
        let ledger = open(&left);
        let counting = Arc::new(Counting::default());
        ledger.start_settling(counting.clone()).unwrap();
        ledger.flush().await.unwrap();
        let sum = ledger.sum("alice", time(DAY), time(2 * DAY)).unwrap();
        assert_eq!((sum.records, sum.total_tokens, sum.estimated), (1, 70, 1));
        assert_eq!(counting.settled().len(), usize::from(restarts == 1));
        ledger.close().await.unwrap();
        assert_eq!(count(&left, "settled = 1 AND outcome = 'aborted'"), 1);
    }
}

#[tokio::test]
async fn a_call_that_began_is_recorded_once_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut ended = model_call("alice", time(DAY), 1);
    let place = begin(&ledger, &ended).await;
    ended.tokens.input = Some(5);
    place.record(ended);
    drop(begin(&ledger, &model_call("alice", time(DAY), 2)).await);
    // One whose caller did not wait until it was kept.
    let mut place = Place::take(ledger.clone() as Arc<dyn Sink>).unwrap();
    drop(place.begin(&model_call("alice", time(DAY), 3)));
    drop(place);
    ledger.flush().await.unwrap();

    let left = crashed(&directory);
    let sum = open(&left).sum("alice", time(DAY), time(2 * DAY)).unwrap();
    assert_eq!((sum.records, sum.total_tokens), (1, 5));
}

#[tokio::test]
async fn no_call_begins_while_the_file_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let options = LedgerOptions::new().busy_timeout(Duration::from_millis(1));
    let ledger = open_with(&directory, options);
    let lock = Connection::open(path(directory.path())).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();

    let call = model_call("alice", time(DAY), 1);
    let mut place = Place::take(ledger.clone() as Arc<dyn Sink>).unwrap();
    assert_eq!(place.begin(&call).await, Err(Full::new()));
    drop(place);

    lock.execute_batch("COMMIT").unwrap();
    begin(&ledger, &call).await.record(call);
    ledger.flush().await.unwrap();
    assert_eq!(count(&directory, "true"), 1);
}

#[tokio::test]
async fn a_record_that_is_not_settled_keeps_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_with(&directory, LedgerOptions::new().capacity(1));
    ledger.start_settling(Arc::new(Never)).unwrap();
    record(&ledger, to_settle("alice", 5));
    while count(&directory, "true") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ledger.admit(), Err(Full::new()));
    assert_eq!(ledger.backlog(), 1);
}

/// Never comes to an end.
struct Never;

impl Settle for Never {
    fn settle(&self, _: &UsageRecord) -> SettleFuture {
        SettleFuture::boxed(std::future::pending())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_55_all_that_goes_in_is_stored_and_settled() {
    const EACH: u64 = 2_500;
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_with(&directory, LedgerOptions::new().capacity(300));
    let settle = Arc::new(Counting::default());
    settle.failures.store(50, Ordering::SeqCst);
    ledger.start_settling(settle.clone()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for user in 0..4_u64 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            for n in 0..EACH {
                let place = loop {
                    match Place::take(ledger.clone() as Arc<dyn Sink>) {
                        Ok(place) => break place,
                        Err(_) => tokio::task::yield_now().await,
                    }
                };
                place.record(to_settle(&user.to_string(), n * user));
            }
        });
    }
    tasks.join_all().await;
    ledger.flush().await.unwrap();
    for user in 0..4_u64 {
        let sum = ledger
            .sum(&*user.to_string(), time(0), time(9 * DAY))
            .unwrap();
        let tokens = user * EACH * (EACH - 1) / 2;
        assert_eq!((sum.records, sum.total_tokens), (EACH, tokens));
        assert_eq!(
            sum.cost,
            NanoUsd::from_nanos(i64::try_from(tokens * 10).unwrap())
        );
    }
    let settled = settle.settled();
    assert_eq!(settled.len() as u64, 4 * EACH);
    assert!(settled.values().all(|times| *times == 1));
    assert_eq!(
        count(&directory, "settled = 1"),
        i64::try_from(4 * EACH).unwrap()
    );
    assert_eq!(ledger.backlog(), 0);
}

#[tokio::test(start_paused = true)]
async fn tries_again_what_could_not_be_settled() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let settle = Arc::new(Counting::default());
    settle.failures.store(7, Ordering::SeqCst);
    ledger.start_settling(settle.clone()).unwrap();
    let unsettled = to_settle("alice", 5);
    record(&ledger, unsettled.clone());
    ledger.flush().await.unwrap();
    assert_eq!(settle.settled(), HashMap::from([(unsettled.id, 1)]));
    assert_eq!(settle.failures.load(Ordering::SeqCst), 0);
    assert_eq!(count(&directory, "settled = 1"), 1);
}

#[tokio::test]
async fn marks_what_is_refused_for_good_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    ledger
        .start_settling(Arc::new(Counting {
            refuses: true,
            ..Counting::default()
        }))
        .unwrap();
    record(&ledger, to_settle("alice", 5));
    ledger.flush().await.unwrap();
    assert_eq!(count(&directory, "settled = 2"), 1);
    assert_eq!(ledger.backlog(), 0);
}

#[tokio::test]
async fn a_closure_settles() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let settled = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&settled);
    let settle = move |record: &UsageRecord| {
        if record.tokens.total() == 0 {
            return SettleFuture::ready(Err(SettleError::refused("nothing was used")));
        }
        // The first time the store is away.
        let result = match seen.fetch_add(1, Ordering::SeqCst) {
            0 => Err(SettleError::unavailable("store is away")),
            _ => Ok(()),
        };
        SettleFuture::ready(result)
    };
    ledger.start_settling(Arc::new(settle)).unwrap();
    record(&ledger, to_settle("alice", 0));
    record(&ledger, to_settle("alice", 5));
    ledger.flush().await.unwrap();
    assert_eq!(settled.load(Ordering::SeqCst), 2);
    assert_eq!(count(&directory, "settled = 1 AND total_tokens = 5"), 1);
    assert_eq!(count(&directory, "settled = 2 AND total_tokens = 0"), 1);
}

#[tokio::test]
async fn settles_what_was_left_over_page_by_page() {
    const ROWS: usize = 1_300;
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    for _ in 0..ROWS {
        record(&ledger, to_settle("alice", 1));
    }
    record(&ledger, model_call("alice", time(DAY), 1));
    ledger.close().await.unwrap();
    drop(ledger);
    let ledger = open(&directory);
    let settle = Arc::new(Counting::default());
    ledger.start_settling(settle.clone()).unwrap();
    let later = to_settle("alice", 1);
    record(&ledger, later.clone());
    ledger.flush().await.unwrap();
    let settled = settle.settled();
    assert_eq!(settled.len(), ROWS + 1);
    assert!(settled.values().all(|times| *times == 1));
    ledger.close().await.unwrap();
    let ledger = open(&directory);
    let settle = Arc::new(Counting::default());
    ledger.start_settling(settle.clone()).unwrap();
    ledger.flush().await.unwrap();
    assert!(settle.settled().is_empty(), "nothing is left over");
}

#[tokio::test]
async fn settles_once_only() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    ledger
        .start_settling(Arc::new(Counting::default()))
        .unwrap();
    let again = ledger.start_settling(Arc::new(Counting::default()));
    assert!(matches!(again, Err(LedgerError::AlreadySettling)));
}

#[test]
fn settling_needs_a_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let started = open(&directory).start_settling(Arc::new(Counting::default()));
    assert!(matches!(started, Err(LedgerError::NoRuntime)));
}

#[tokio::test]
async fn a_locked_file_delays_records_and_loses_none() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_with(
        &directory,
        LedgerOptions::new().busy_timeout(Duration::from_millis(1)),
    );
    let other = Connection::open(path(directory.path())).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    record(&ledger, model_call("alice", time(DAY), 5));
    while ledger.healthy() {
        tokio::task::yield_now().await;
    }
    record(&ledger, model_call("alice", time(DAY), 6));
    assert_eq!(ledger.backlog(), 2);
    other.execute_batch("ROLLBACK").unwrap();
    ledger.flush().await.unwrap();
    assert_eq!(
        ledger
            .sum("alice", time(0), time(9 * DAY))
            .unwrap()
            .total_tokens,
        11
    );
    assert!(ledger.healthy());
    assert_eq!(ledger.backlog(), 0);
}

#[tokio::test]
async fn calls_are_refused_soon_however_many_records_wait_for_a_file_that_cannot_be_written() {
    const RECORDS: usize = 2_000;
    const BEGINS: u32 = 20;
    let directory = tempfile::tempdir().unwrap();
    let options = LedgerOptions::new().busy_timeout(Duration::from_millis(1));
    let ledger = open_with(&directory, options);
    let other = Connection::open(path(directory.path())).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..RECORDS {
        record(&ledger, model_call("alice", time(DAY), 1));
    }
    // Until it is tried again no more often than every two seconds.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((ledger.healthy(), ledger.backlog()), (false, RECORDS));
    let begun = Instant::now();
    for _ in 0..BEGINS {
        let mut place = Place::take(ledger.clone() as Arc<dyn Sink>).unwrap();
        let kept = place.begin(&model_call("alice", time(DAY), 1));
        let kept = tokio::time::timeout(Duration::from_secs(5), kept).await;
        assert_eq!(kept, Ok(Err(Full::new())));
    }
    let took = begun.elapsed();
    println!("{BEGINS} calls were refused in {took:?}");
    assert!(took < Duration::from_secs(15), "not one every two seconds");
    other.execute_batch("ROLLBACK").unwrap();
    ledger.flush().await.unwrap();
    assert_eq!(count(&directory, "true"), RECORDS as i64);
    assert!(ledger.healthy());
}

/// Panics in the thread that wakes it.
struct Trap;

impl Wake for Trap {
    fn wake(self: Arc<Self>) {
        panic!("the writer of the ledger dies of this");
    }
}

#[tokio::test]
async fn a_ledger_whose_writer_has_died_admits_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open_with(
        &directory,
        LedgerOptions::new().busy_timeout(Duration::from_millis(1)),
    );
    let other = Connection::open(path(directory.path())).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    record(&ledger, model_call("alice", time(DAY), 5));
    // The flush waits for the record, and so for the lock: the writer will have to wake it.
    let trap = Waker::from(Arc::new(Trap));
    let mut flush = Box::pin(ledger.flush());
    let polled = flush.as_mut().poll(&mut Context::from_waker(&trap));
    assert!(polled.is_pending());
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(ledger.flush().await, Err(LedgerError::Closed)));
    assert!(!ledger.healthy());
    assert_eq!(ledger.admit(), Err(Full::new()));
    assert!(matches!(ledger.close().await, Err(LedgerError::Closed)));
}

#[tokio::test]
async fn closing_waits_for_calls_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let sink: Arc<dyn Sink> = ledger.clone();
    let place = Place::take(sink.clone()).unwrap();
    let forgone = Place::take(sink.clone()).unwrap();
    let closing = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.close().await }
    });
    while Place::take(sink.clone()).is_ok() {
        tokio::task::yield_now().await;
    }
    drop(forgone);
    tokio::task::yield_now().await;
    assert!(!closing.is_finished());
    place.record(model_call("alice", time(DAY), 5));
    closing.await.unwrap().unwrap();
    assert_eq!(count(&directory, "true"), 1);
    assert!(matches!(ledger.flush().await, Err(LedgerError::Closed)));
}

#[tokio::test]
async fn joins_a_run_before_and_after_its_record() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    ledger.join_run("early".into(), "run-1".into(), Some("s".into()));
    for id in ["early", "late", "known", "alone"] {
        let mut call = model_call("alice", time(DAY), 5);
        call.response_id = Some(id.into());
        call.run_id = (id == "known").then(|| "run-0".into());
        record(&ledger, call);
    }
    ledger.join_run("late".into(), "run-2".into(), None);
    ledger.join_run("known".into(), "run-3".into(), Some("t".into()));
    ledger.flush().await.unwrap();
    let mut joined: Vec<_> = ledger
        .records("alice", time(0), time(9 * DAY), 10, None)
        .unwrap()
        .into_iter()
        .map(|record| {
            let text = |field: Option<Arc<str>>| field.as_deref().unwrap_or("-").to_owned();
            [
                text(record.response_id),
                text(record.run_id),
                text(record.session_key),
            ]
            .join(" ")
        })
        .collect();
    joined.sort();
    assert_eq!(
        joined,
        [
            "alone - -",
            "early run-1 s",
            "known run-0 t",
            "late run-2 -"
        ]
    );
}

#[tokio::test]
async fn adds_up_by_day_model_and_session() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let midnight = time(10 * DAY);
    let before = midnight - Duration::from_millis(1);
    for (user, at, model, session, tokens) in [
        ("alice", before, Some("m"), Some("s"), 1),
        ("alice", midnight, Some("m"), None, 10),
        ("alice", midnight, None, Some("s"), 100),
        ("bob", midnight, Some("m"), Some("s"), 1_000),
    ] {
        let mut call = model_call(user, at, tokens);
        call.model = model.map(Into::into);
        call.session_key = session.map(Into::into);
        if model.is_none() {
            call.cost = None;
            call.source = Source::Estimated;
        }
        record(&ledger, call);
    }
    let mut run = UsageRecord::new("alice".into(), Operation::Run);
    run.admitted_at = midnight;
    record(&ledger, run);
    ledger.flush().await.unwrap();
    let totals = |group_by| -> Vec<_> {
        let totals = ledger
            .totals("alice", time(0), time(99 * DAY), group_by)
            .unwrap();
        totals
            .into_iter()
            .map(|total| (total.group, total.sum.total_tokens))
            .collect()
    };
    assert_eq!(
        totals(GroupBy::Day),
        [(Group::Day(time(9 * DAY)), 1), (Group::Day(midnight), 110)]
    );
    assert_eq!(
        totals(GroupBy::Model),
        [
            (Group::Model(None), 100),
            (Group::Model(Some("m".into())), 11)
        ]
    );
    assert_eq!(
        totals(GroupBy::Session),
        [
            (Group::Session(None), 10),
            (Group::Session(Some("s".into())), 101)
        ]
    );
    let sum = ledger.sum("alice", midnight, time(99 * DAY)).unwrap();
    assert_eq!((sum.records, sum.calls, sum.total_tokens), (3, 1, 110));
    assert_eq!(
        (sum.cost, sum.unpriced, sum.estimated),
        (NanoUsd::from_nanos(100), 2, 1)
    );
    assert_eq!(
        ledger.sum("alice", time(0), midnight).unwrap().records,
        1,
        "the end does not belong to it"
    );
    assert_eq!(
        ledger.sum("nobody", time(0), time(99 * DAY)).unwrap(),
        Default::default()
    );
    let used: Vec<_> = ledger
        .used(before)
        .unwrap()
        .into_iter()
        .map(|used| {
            (
                used.user_id.to_string(),
                used.at,
                used.tokens,
                used.cost.as_nanos(),
                used.calls,
            )
        })
        .collect();
    assert_eq!(
        used,
        [
            ("alice".to_owned(), time(10 * DAY - 900), 1, 10, 0),
            ("alice".to_owned(), midnight, 110, 100, 1),
            ("bob".to_owned(), midnight, 1_000, 10_000, 0),
        ]
    );
    assert_eq!(ledger.used(midnight).unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_used_is_summed_by_minutes_for_the_last_hour_and_by_quarters_before() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let now = SystemClock.now();
    let ago = |minutes: u64| now - Duration::from_secs(minutes * 60);
    for minutes in [1_u64, 2, 2, 300, 302] {
        record(&ledger, model_call("alice", ago(minutes), 1));
    }
    ledger.flush().await.unwrap();
    let used = ledger.used(ago(600)).unwrap();
    let tokens: u64 = used.iter().map(|used| used.tokens).sum();
    assert_eq!(tokens, 5);
    let since_1970 = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let recent = used.iter().filter(|used| used.at > ago(60));
    assert_eq!(recent.count(), 2, "one for each minute");
    for used in used {
        let unit = if used.at > ago(60) { 60 } else { 900 };
        assert_eq!(since_1970(used.at) % unit, 0);
    }
}

#[tokio::test]
async fn pages_through_records_of_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    for n in 0..10 {
        record(&ledger, model_call("alice", time(DAY), n));
        record(&ledger, model_call("bob", time(DAY), n));
    }
    ledger.flush().await.unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = ledger
            .records("alice", time(0), time(9 * DAY), 3, before)
            .unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.into_iter().map(|record| record.tokens.total()));
    }
    assert_eq!(seen, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    let bobs = ledger
        .records("bob", time(0), time(9 * DAY), 1, None)
        .unwrap()[0]
        .id;
    assert!(
        ledger
            .records("alice", time(0), time(9 * DAY), 3, Some(bobs))
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn everybodys_records_are_added_up_paged_through_and_exported() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    const RECORDS: u64 = 2_500;
    for n in 0..RECORDS {
        // Many of one time, and out of order.
        let at = time(DAY + n * 7 % 10);
        record(
            &ledger,
            model_call(["alice", "bob"][usize::from(n % 5 == 0)], at, n),
        );
    }
    ledger.flush().await.unwrap();
    let (from, to) = (time(DAY), time(2 * DAY));
    let sum = ledger.sum(None::<&str>, from, to).unwrap();
    assert_eq!(
        (sum.records, sum.total_tokens),
        (RECORDS, RECORDS * (RECORDS - 1) / 2)
    );
    let users = ledger
        .totals(None::<&str>, from, to, GroupBy::User)
        .unwrap();
    let users: Vec<_> = users
        .into_iter()
        .map(|total| (total.group, total.sum.records))
        .collect();
    assert_eq!(
        users,
        [
            (Group::User("alice".into()), 2_000),
            (Group::User("bob".into()), 500)
        ]
    );

    let exported: Vec<_> = ledger
        .export(None::<&str>, from, to)
        .flat_map(Result::unwrap)
        .collect();
    assert!(exported.is_sorted_by_key(|record| record.admitted_at));
    let of_alice: Vec<_> = ledger
        .export("alice", from, to)
        .flat_map(Result::unwrap)
        .collect();
    let alices = exported.iter().filter(|record| &*record.subject == "alice");
    assert!(alices.eq(&of_alice));
    assert_eq!(
        ledger
            .export("alice", from, to)
            .map(|page| page.unwrap().len())
            .max(),
        Some(1_000)
    );
    assert_eq!(ledger.export("nobody", from, to).count(), 0);

    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = ledger.records(None::<&str>, from, to, 700, before).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page);
    }
    seen.reverse();
    assert_eq!(seen, exported);
}

#[tokio::test]
async fn records_are_found_by_the_answer_they_are_of() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    for n in 0..150 {
        let mut call = model_call("alice", time(DAY), n);
        call.response_id = Some(if n == 7 { "seven" } else { "always" }.into());
        record(&ledger, call);
    }
    ledger.flush().await.unwrap();
    let seven = ledger.find_by_response("seven").unwrap();
    assert_eq!((seven.len(), seven[0].tokens.input), (1, Some(7)));
    let always = ledger.find_by_response("always").unwrap();
    assert_eq!((always.len(), always[0].tokens.input), (100, Some(149)));
    assert!(ledger.find_by_response("never").unwrap().is_empty());
}

#[tokio::test]
async fn the_largest_counts_and_costs_can_be_added_up() {
    const LARGEST: u64 = 1 << 53;
    const RECORDS: u64 = 1_000;
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut huge = model_call("alice", time(DAY), 0);
    huge.tokens.input = Some(u64::MAX);
    huge.tokens.output = Some(u64::MAX);
    huge.calls = u64::MAX;
    huge.cost = Some(NanoUsd::from_nanos(i64::MAX));
    for _ in 0..RECORDS {
        huge.id = RecordId::new();
        record(&ledger, huge.clone());
    }
    let mut owed = model_call("bob", time(DAY), 0);
    owed.cost = Some(NanoUsd::from_nanos(i64::MIN));
    record(&ledger, owed);
    ledger.flush().await.unwrap();
    let all = RECORDS * LARGEST;
    let money = i64::try_from(all).unwrap();
    let sum = ledger.sum("alice", time(0), time(9 * DAY)).unwrap();
    assert_eq!(
        [sum.input_tokens, sum.output_tokens, sum.total_tokens],
        [all; 3]
    );
    assert_eq!((sum.calls, sum.cost.as_nanos()), (all, money));
    let days = ledger.used(time(0)).unwrap();
    assert_eq!((days[0].tokens, days[0].calls), (all, all));
    assert_eq!(days[0].cost.as_nanos(), money);
    assert_eq!(days[1].cost.as_nanos(), -(1 << 53));
}

#[tokio::test]
async fn leaves_other_tables_of_the_file_alone_and_refuses_a_newer_schema() {
    let directory = tempfile::tempdir().unwrap();
    let conn = Connection::open(path(directory.path())).unwrap();
    conn.execute_batch("CREATE TABLE other (x); INSERT INTO other VALUES (1)")
        .unwrap();
    let ledger = open(&directory);
    ledger.close().await.unwrap();
    assert_eq!(
        conn.query_row("SELECT x FROM other", [], |row| row.get::<_, i64>(0)),
        Ok(1)
    );
    conn.execute_batch("UPDATE token_usage_schema SET version = 99")
        .unwrap();
    let newer = SqliteLedger::open(path(directory.path()), LedgerOptions::new());
    assert!(matches!(
        newer,
        Err(LedgerError::NewerSchema { found: 99, .. })
    ));
}

/// What the child of the next test does: it records and tells what was flushed, until it is killed.
#[tokio::test]
async fn child_that_records_until_it_is_killed() {
    let Some(directory) = std::env::var_os("TOWER_USAGE_TEST_CHILD") else {
        return;
    };
    let ledger = SqliteLedger::open(path(Path::new(&directory)), LedgerOptions::new()).unwrap();
    if std::env::var_os("TOWER_USAGE_TEST_SETTLES").is_some() {
        ledger.start_settling(Arc::new(Told)).unwrap();
    }
    loop {
        let batch: Vec<_> = (0..7).map(|n| to_settle("alice", n)).collect();
        let ids: Vec<_> = batch.iter().map(|record| record.id.to_string()).collect();
        for call in batch {
            record(&ledger, call);
        }
        ledger.flush().await.unwrap();
        tell(&format!("stored {}", ids.join(" ")));
    }
}

/// Tells what it settles.
struct Told;

impl Settle for Told {
    fn settle(&self, record: &UsageRecord) -> SettleFuture {
        tell(&format!("settled {}", record.id));
        SettleFuture::ready(Ok(()))
    }
}

/// Past the test harness, which would keep it back.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Runs the child until it has told so many lines, kills it, and gives the ids in them.
fn kill_after(directory: &TempDir, lines: usize, settles: bool) -> HashMap<String, Vec<RecordId>> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "child_that_records_until_it_is_killed",
            "--nocapture",
        ])
        .env("TOWER_USAGE_TEST_CHILD", directory.path())
        .stdout(Stdio::piped());
    if settles {
        command.env("TOWER_USAGE_TEST_SETTLES", "1");
    }
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told: HashMap<String, Vec<RecordId>> = HashMap::new();
    let mut take = |line: &str| {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default().to_owned();
        let ids: Vec<_> = words.filter_map(|id| id.parse::<RecordId>().ok()).collect();
        let is_told = !ids.is_empty();
        told.entry(kind).or_default().extend(ids);
        is_told
    };
    let mut seen = 0;
    while seen < lines {
        seen += usize::from(take(&out.next().unwrap().unwrap()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it told between the last line that was read and its end. An id that is cut off was not told.
    for line in out.map_while(Result::ok) {
        take(&line);
    }
    told
}

#[tokio::test]
async fn d5_49_what_was_flushed_survives_a_kill_and_is_settled_once_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let told = kill_after(&directory, 20, false);
    let ledger = open(&directory);
    let settle = Arc::new(Counting::default());
    ledger.start_settling(settle.clone()).unwrap();
    ledger.flush().await.unwrap();
    let settled = settle.settled();
    assert!(told["stored"].len() >= 140);
    for id in &told["stored"] {
        assert_eq!(settled.get(id), Some(&1), "stored and settled once");
    }
    assert_eq!(
        settled.len() as u64,
        ledger.sum("alice", time(0), time(9 * DAY)).unwrap().records
    );
    assert_eq!(count(&directory, "settled = 0"), 0);
}

#[tokio::test]
async fn d5_49_after_a_kill_amid_settling_every_record_has_been_settled() {
    let directory = tempfile::tempdir().unwrap();
    let told = kill_after(&directory, 100, true);
    let left: i64 = count(&directory, "settled = 0");
    let ledger = open(&directory);
    let settle = Arc::new(Counting::default());
    ledger.start_settling(settle.clone()).unwrap();
    ledger.flush().await.unwrap();
    let replayed = settle.settled();
    assert_eq!(
        i64::try_from(replayed.len()).unwrap(),
        left,
        "only what was not marked is settled again"
    );
    assert!(replayed.values().all(|times| *times == 1));
    let records = ledger
        .records("alice", time(0), time(9 * DAY), usize::MAX, None)
        .unwrap();
    for record in records {
        let settled = told["settled"].contains(&record.id) || replayed.contains_key(&record.id);
        assert!(settled, "sum of records = sum of settled");
    }
}

#[test]
fn the_ledger_is_send_sync_and_static() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<SqliteLedger>();
    shared::<LedgerOptions>();
    fn send<T: Send + 'static>() {}
    send::<SettleFuture>();
}
