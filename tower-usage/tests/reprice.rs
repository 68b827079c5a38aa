//! What had no price gets one afterwards: once, at the rate of its time, and told to who counts.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use rusqlite::Connection;
use tempfile::TempDir;
use tower_usage::{
    NanoUsd, Operation, Place, PriceEntry, PriceList, Rate, UsageRecord,
    sqlite::{LedgerError, LedgerOptions, Repriced, SettleFuture, SqliteLedger, Sum},
};

mod support;
use support::time;

const DAY: u64 = 86_400;

fn open(directory: &TempDir) -> Arc<SqliteLedger> {
    SqliteLedger::open(directory.path().join("ledger.db"), LedgerOptions::new()).unwrap()
}

fn flat(dollars: &str) -> Rate {
    Rate::new(dollars.parse().unwrap(), dollars.parse().unwrap())
}

fn one_dollar() -> PriceList {
    PriceList::new([PriceEntry::new("m", flat("1"))]).unwrap()
}

fn used(user: &str, model: &str, tokens: u64) -> UsageRecord {
    let mut record = UsageRecord::new(user.into(), Operation::ModelCall);
    record.admitted_at = time(DAY);
    record.ended_at = time(DAY);
    record.model = Some(model.into());
    record.tokens.input = Some(tokens);
    record
}

fn record(ledger: &Arc<SqliteLedger>, record: UsageRecord) {
    Place::take(ledger.clone()).unwrap().record(record);
}

fn records(ledger: &SqliteLedger, user: &str) -> Vec<UsageRecord> {
    ledger
        .records(user, time(0), time(9 * DAY), 10_000, None)
        .unwrap()
}

fn sum(ledger: &SqliteLedger) -> Sum {
    ledger.sum("alice", time(0), time(9 * DAY)).unwrap()
}

async fn reprice(ledger: &SqliteLedger, prices: PriceList) -> (Repriced, Vec<UsageRecord>) {
    let mut told = Vec::new();
    let repriced = ledger
        .reprice(prices, |record| told.push(record.clone()))
        .await
        .unwrap();
    (repriced, told)
}

fn nanos(nanos: i64) -> NanoUsd {
    NanoUsd::from_nanos(nanos)
}

#[tokio::test]
async fn d5_55_what_was_cached_for_an_hour_is_priced_once_that_has_a_price() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut cached = used("alice", "m", 2);
    cached.tokens.cache_write = Some(5);
    cached.tokens.cache_write_1h = Some(3);
    cached.price(&one_dollar());
    assert_eq!(cached.cost, None);
    record(&ledger, cached);
    ledger.flush().await.unwrap();
    let still = ledger.reprice(one_dollar(), |_| ()).await.unwrap();
    assert_eq!((still.records, still.unpriced), (0, 1));
    let rate = flat("1").cache_write_1h("2".parse().unwrap());
    let known = PriceList::new([PriceEntry::new("m", rate)]).unwrap();
    let priced = ledger.reprice(known, |_| ()).await.unwrap();
    assert_eq!((priced.records, priced.cost.as_nanos()), (1, 4_000 + 6_000));
    let [record] = &records(&ledger, "alice")[..] else {
        panic!()
    };
    assert_eq!(
        (record.rate, record.metadata.as_deref()),
        (Some(rate), None)
    );
}

#[tokio::test]
async fn d5_55_a_record_costs_what_its_rate_says_and_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut asked = used("bob", "x", 30);
    asked.model = None;
    asked.requested_model = Some("m".into());
    let mut later = used("alice", "m", 7);
    later.admitted_at = time(2 * DAY);
    let mut long = used("alice", "m", 1);
    long.tokens.cache_read = Some(100);
    long.metadata = Some(r#"{"status":200}"#.into());
    let mut priced = used("alice", "m", 1_000);
    priced.cost = Some(nanos(5));
    let mut free = used("alice", "m", 0);
    free.tokens.input = None;
    for entry in [asked, later, long, priced, free, used("alice", "other", 5)] {
        record(&ledger, entry);
    }
    ledger.flush().await.unwrap();

    let prices = PriceList::new([
        PriceEntry::new("m", flat("1")).above(100, flat("10")),
        PriceEntry::new("m", flat("2")).effective_from(time(2 * DAY)),
    ])
    .unwrap();
    let (repriced, told) = reprice(&ledger, prices.clone()).await;
    assert_eq!(
        (repriced.records, repriced.cost),
        (3, nanos(30_000 + 14_000 + 1_010_000))
    );
    assert_eq!((repriced.unpriced, repriced.unsettled), (1, 0));
    let told: Vec<_> = told
        .iter()
        .map(|record| {
            (
                &*record.subject,
                record.admitted_at,
                record.cost,
                record.number,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("bob", time(DAY), Some(nanos(30_000)), Some(1)),
            ("alice", time(2 * DAY), Some(nanos(14_000)), Some(2)),
            ("alice", time(DAY), Some(nanos(1_010_000)), Some(3)),
        ]
    );
    for record in records(&ledger, "alice") {
        let Some(rate) = record.rate else { continue };
        assert_eq!(
            record.cost,
            rate.cost(&record.tokens),
            "the row says what its rate says"
        );
    }
    let long = records(&ledger, "alice").pop().unwrap();
    assert_eq!(
        (long.rate, long.metadata.as_deref()),
        (Some(flat("10")), Some(r#"{"status":200}"#))
    );
    let sum = sum(&ledger);
    assert_eq!((sum.cost, sum.unpriced), (nanos(14_000 + 1_010_000 + 5), 2));

    let (repriced, told) = reprice(&ledger, prices).await;
    assert_eq!(
        (repriced.records, repriced.cost, told.len()),
        (0, nanos(0), 0)
    );
}

#[tokio::test]
async fn a_fallback_is_marked_in_the_row() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    record(&ledger, used("alice", "new", 3));
    ledger.flush().await.unwrap();
    let prices = one_dollar().fallback("m").unwrap();
    assert_eq!(reprice(&ledger, prices).await.0.records, 1);
    let row = records(&ledger, "alice").pop().unwrap();
    assert_eq!(row.cost, Some(nanos(3_000)));
    assert_eq!(row.metadata.as_deref(), Some(r#"{"priced_as":"m"}"#));
}

#[tokio::test]
async fn what_waits_to_be_settled_is_left_until_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let mut waiting = used("alice", "m", 3);
    waiting.settle_ref = Some("ticket".into());
    record(&ledger, waiting);
    ledger.flush().await.unwrap();
    let (repriced, told) = reprice(&ledger, one_dollar()).await;
    assert_eq!(
        (repriced.records, repriced.unsettled, told.len()),
        (0, 1, 0)
    );

    let settled = Arc::new(Mutex::new(Vec::new()));
    let costs = Arc::clone(&settled);
    let settle = move |record: &UsageRecord| {
        costs.lock().unwrap().push(record.cost);
        SettleFuture::ready(Ok(()))
    };
    ledger.start_settling(Arc::new(settle)).unwrap();
    ledger.flush().await.unwrap();
    let (repriced, told) = reprice(&ledger, one_dollar()).await;
    assert_eq!((repriced.records, repriced.unsettled), (1, 0));
    // Together they say what is in the file: nothing is counted twice, nothing lacks.
    assert_eq!(*settled.lock().unwrap(), [None]);
    assert_eq!(told[0].cost, Some(nanos(3_000)));
    assert_eq!(sum(&ledger).cost, nanos(3_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_55_counters_agree_with_the_ledger_while_calls_are_recorded() {
    const RECORDS: u64 = 6_000;
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    // What counters have: what was settled, and what is told.
    let counted = Arc::new(Mutex::new(0_i64));
    let settling = Arc::clone(&counted);
    let settle = move |record: &UsageRecord| {
        *settling.lock().unwrap() += record.cost.unwrap_or_default().as_nanos();
        SettleFuture::ready(Ok(()))
    };
    ledger.start_settling(Arc::new(settle)).unwrap();
    let writer = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            for n in 0..RECORDS {
                let mut entry = used("alice", "m", n % 97 + 1);
                entry.settle_ref = Some(n.to_string().into());
                if n % 3 == 0 {
                    entry.price(&one_dollar());
                }
                record(&ledger, entry);
                if n % 500 == 0 {
                    ledger.flush().await.unwrap();
                }
            }
            ledger.flush().await.unwrap();
        }
    });
    let mut told: HashMap<_, u32> = HashMap::new();
    let mut passes = 0;
    loop {
        let ended = writer.is_finished();
        let each = |record: &UsageRecord| {
            *told.entry(record.id).or_default() += 1;
            *counted.lock().unwrap() += record.cost.unwrap().as_nanos();
        };
        let repriced = ledger.reprice(one_dollar(), each).await.unwrap();
        passes += 1;
        if ended && repriced.unsettled == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert!(passes > 1, "it went on while calls were recorded");
    assert_eq!(told.len() as u64, RECORDS - RECORDS / 3);
    assert!(told.values().all(|times| *times == 1));
    let expected: u64 = (0..RECORDS).map(|n| (n % 97 + 1) * 1_000).sum();
    let sum = sum(&ledger);
    assert_eq!((sum.records, sum.unpriced), (RECORDS, 0));
    assert_eq!(u64::try_from(sum.cost.as_nanos()).unwrap(), expected);
    assert_eq!(*counted.lock().unwrap(), sum.cost.as_nanos());
}

#[tokio::test]
async fn one_that_was_broken_off_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    for _ in 0..2_000 {
        record(&ledger, used("alice", "m", 1));
    }
    ledger.flush().await.unwrap();
    let mut told = 0;
    {
        let mut first = pin!(ledger.reprice(one_dollar(), |_| told += 1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
    }
    ledger.flush().await.unwrap();
    let left = i64::try_from(sum(&ledger).unpriced).unwrap();
    assert!(
        left == 2_000 || left == 2_000 - 512,
        "all of a page or nothing"
    );
    // As after a crash: the file is opened again.
    ledger.close().await.unwrap();
    let ledger = open(&directory);
    let (repriced, told) = reprice(&ledger, one_dollar()).await;
    assert_eq!(i64::try_from(repriced.records).unwrap(), left);
    assert_eq!(told.len(), usize::try_from(left).unwrap());
    assert_eq!(
        (sum(&ledger).unpriced, sum(&ledger).cost),
        (0, nanos(2_000_000))
    );
}

#[tokio::test]
async fn what_cannot_be_priced_does_not_hold_up_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    for _ in 0..1_100 {
        record(&ledger, used("alice", "unknown", 1));
    }
    record(&ledger, used("alice", "dear", 1 << 53));
    record(&ledger, used("alice", "m", 2));
    ledger.flush().await.unwrap();
    let broken = Connection::open(directory.path().join("ledger.db")).unwrap();
    broken
        .execute(
            "UPDATE token_usage_logs SET operation = 'x' WHERE seq = 5",
            [],
        )
        .unwrap();
    let dear = Rate::new("18446744073".parse().unwrap(), "1".parse().unwrap());
    let prices = [
        PriceEntry::new("dear", dear),
        PriceEntry::new("m", flat("1")),
    ];
    let (repriced, told) = reprice(&ledger, PriceList::new(prices).unwrap()).await;
    assert_eq!(
        (repriced.records, repriced.unpriced, told.len()),
        (1, 1_101, 1)
    );
}

#[tokio::test]
async fn waits_while_the_file_cannot_be_written_and_ends_with_the_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let options = LedgerOptions::new().busy_timeout(Duration::from_millis(5));
    let ledger = SqliteLedger::open(directory.path().join("ledger.db"), options).unwrap();
    record(&ledger, used("alice", "m", 2));
    ledger.flush().await.unwrap();
    let lock = Connection::open(directory.path().join("ledger.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut told = 0;
    {
        let mut waiting = pin!(ledger.reprice(one_dollar(), |_| told += 1));
        let refused = async {
            while ledger.healthy() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = &mut waiting => panic!("repriced a file that cannot be written"),
            () = refused => {}
        }
        lock.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.await.unwrap().records, 1);
    }
    assert_eq!(told, 1);
    ledger.close().await.unwrap();
    let closed = ledger.reprice(one_dollar(), |_| ()).await;
    assert!(matches!(closed, Err(LedgerError::Closed)));
}
