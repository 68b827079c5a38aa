//! Marks in the ledger: what is counted elsewhere up to one, and what is left to the settler.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tower_usage::{
    Operation, Place, UsageRecord,
    sqlite::{LedgerError, LedgerOptions, SettleFuture, SqliteLedger, Used},
};

fn open(directory: &tempfile::TempDir) -> Arc<SqliteLedger> {
    SqliteLedger::open(directory.path().join("ledger.db"), LedgerOptions::new()).unwrap()
}

fn use_tokens(ledger: &Arc<SqliteLedger>, tokens: u64) {
    let mut record = UsageRecord::new("alice".into(), Operation::ModelCall);
    record.tokens.input = Some(tokens);
    record.settle_ref = Some("ticket".into());
    Place::take(ledger.clone()).unwrap().record(record);
}

fn sum(used: &[Used]) -> u64 {
    used.iter().map(|used| used.tokens).sum()
}

#[tokio::test]
async fn a_mark_stays_where_it_was_made_also_in_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let none = ledger.mark("none").await.unwrap();
    use_tokens(&ledger, 1);
    use_tokens(&ledger, 10);
    let mark = ledger.mark("two").await.unwrap();
    use_tokens(&ledger, 100);
    ledger.flush().await.unwrap();
    assert_eq!(ledger.mark("two").await.unwrap(), mark);
    let id = ledger.id().unwrap();
    ledger.close().await.unwrap();
    assert!(matches!(
        ledger.mark("late").await,
        Err(LedgerError::Closed)
    ));

    let ledger = open(&directory);
    assert_eq!(ledger.id().unwrap(), id);
    assert_ne!(open(&tempfile::tempdir().unwrap()).id().unwrap(), id);
    assert_eq!(ledger.mark("two").await.unwrap(), mark);
    assert_eq!(ledger.find_mark("two").unwrap(), Some(mark));
    assert_eq!(ledger.find_mark("three").unwrap(), None);
    let until = |mark| sum(&ledger.used_until(mark, Duration::from_secs(3_600)).unwrap());
    assert_eq!(until(&none), 0);
    assert_eq!(until(&mark), 11);
    assert_eq!(sum(&ledger.used(SystemTime::UNIX_EPOCH).unwrap()), 111);
    assert_eq!(ledger.last_number().unwrap(), mark.number + 1);
}

#[tokio::test]
async fn the_settler_is_told_which_side_of_a_mark_a_record_is_on() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    use_tokens(&ledger, 1);
    let mark = ledger.mark("one").await.unwrap();
    let settled = Arc::new(Mutex::new(Vec::new()));
    let numbers = Arc::clone(&settled);
    let settle = move |record: &UsageRecord| {
        numbers.lock().unwrap().push(record.number.unwrap());
        SettleFuture::ready(Ok(()))
    };
    ledger.start_settling(Arc::new(settle)).unwrap();
    use_tokens(&ledger, 2);
    ledger.flush().await.unwrap();
    let settled = settled.lock().unwrap();
    let before = settled.iter().filter(|number| **number <= mark.number);
    assert_eq!((settled.len(), before.count()), (2, 1), "left over and new");
}
