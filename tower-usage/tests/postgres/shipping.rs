//! What is shipped: everything, once, and again when it is changed.

use rusqlite::Connection;
use tempfile::TempDir;
use tower_usage::{
    NanoUsd, Operation, Outcome, Rate, Source, UsageRecord,
    postgres::Shipper,
    sqlite::{LedgerError, LedgerOptions, SqliteLedger},
};

use crate::support::{DAY, Database, always, model_call, open, record, time};

fn file(directory: &TempDir) -> Connection {
    Connection::open(directory.path().join("ledger.db")).unwrap()
}

fn with_everything() -> UsageRecord {
    let mut full = UsageRecord::new("alice".into(), Operation::Run);
    full.admitted_at = time(DAY) + std::time::Duration::from_millis(7);
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
    let rate = Rate::new("1.00".parse().unwrap(), "2.00".parse().unwrap());
    full.rate = Some(
        rate.cache_read("0.5".parse().unwrap())
            .cache_write("3".parse().unwrap())
            .cache_write_1h("6".parse().unwrap()),
    );
    full.source = Source::Observed;
    full.outcome = Outcome::Failed;
    full.metadata = Some(r#"{"error": "overloaded", "status": 529}"#.into());
    full.settle_ref = Some("ticket".into());
    full
}

#[tokio::test]
async fn every_field_arrives_and_is_read_back() {
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    let mut empty = UsageRecord::new("alice".into(), Operation::ModelCall);
    empty.admitted_at = time(DAY);
    empty.ended_at = time(DAY);
    let full = with_everything();
    record(&ledger, full.clone()).await;
    record(&ledger, empty.clone()).await;
    ledger.flush().await.unwrap();
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    shipper.flush().await.unwrap();
    let (from, until) = always();
    let there = to.records("alice", from, until, 10, None).await.unwrap();
    assert_eq!(there, [full, empty]);
    let here = ledger.records("alice", from, until, 10, None).unwrap();
    assert_eq!(there, here);
    let from_where = format!(
        "SELECT count(*) FROM token_usage_logs WHERE ledger = '{}' AND number IN (1, 2) AND total_tokens IN (0, 15)",
        ledger.id().unwrap()
    );
    assert_eq!(database.count(&from_where).await, 2);
    database.end().await;
}

#[tokio::test]
async fn what_was_in_the_file_before_is_shipped_and_what_is_stored_later_by_itself() {
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let to = database.ledger();
    {
        let ledger = open(&directory);
        record(&ledger, model_call("alice", time(DAY), 1)).await;
        ledger.close().await.unwrap();
    }
    let ledger = open(&directory);
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    shipper.flush().await.unwrap();
    let (from, until) = always();
    assert_eq!(to.sum("alice", from, until).await.unwrap().records, 1);
    record(&ledger, model_call("alice", time(DAY), 1)).await;
    let begun = tokio::time::Instant::now();
    while to.sum("alice", from, until).await.unwrap().records < 2 {
        assert!(begun.elapsed().as_secs() < 10);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    database.end().await;
}

#[tokio::test]
async fn a_run_that_is_joined_and_a_price_that_comes_later_are_shipped_again() {
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    for id in ["late", "free", "same"] {
        let mut call = model_call("alice", time(DAY), 5);
        call.response_id = Some(id.into());
        call.cost = None;
        record(&ledger, call).await;
    }
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    ledger.flush().await.unwrap();
    shipper.flush().await.unwrap();
    assert_eq!(shipper.backlog().unwrap().records, 0);

    ledger.join_run("late".into(), "run".into(), Some("s".into()));
    ledger.flush().await.unwrap();
    // As whoever prices them anew does, in any number of statements; some change nothing.
    file(&directory)
        .execute_batch(
            "UPDATE token_usage_logs SET cost_nano_usd = 7, input_price = 1, output_price = 2 WHERE response_id = 'free';
             UPDATE token_usage_logs SET cost_nano_usd = 8 WHERE response_id = 'free';
             UPDATE token_usage_logs SET cost_nano_usd = NULL, run_id = NULL WHERE response_id = 'same';
             UPDATE token_usage_logs SET settled = 1;",
        )
        .unwrap();
    let waiting: i64 = file(&directory)
        .query_row("SELECT count(*) FROM token_usage_changed", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(waiting <= 3, "what changes nothing is not shipped");
    shipper.flush().await.unwrap();
    let late = &to.find_by_response("late").await.unwrap()[0];
    assert_eq!(late.run_id.as_deref(), Some("run"));
    assert_eq!(late.session_key.as_deref(), Some("s"));
    let free = &to.find_by_response("free").await.unwrap()[0];
    assert_eq!(free.cost, Some(NanoUsd::from_nanos(8)));
    assert_eq!(ledger.find_by_response("free").unwrap()[0], *free);
    let (from, until) = always();
    assert_eq!(to.sum("alice", from, until).await.unwrap().records, 3);
    assert_eq!(shipper.backlog().unwrap(), Default::default());
    database.end().await;
}

#[tokio::test]
async fn more_than_a_page_is_shipped_until_nothing_is_left() {
    const RECORDS: u64 = 12_345;
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    for n in 0..RECORDS {
        record(&ledger, model_call("alice", time(DAY + n), n)).await;
    }
    ledger.flush().await.unwrap();
    shipper.flush().await.unwrap();
    let (from, until) = always();
    let sum = to.sum("alice", from, until).await.unwrap();
    assert_eq!(
        (sum.records, sum.total_tokens),
        (RECORDS, RECORDS * (RECORDS - 1) / 2)
    );
    assert_eq!(sum, ledger.sum("alice", from, until).unwrap());
    let dense = "SELECT max(number) FROM token_usage_logs";
    assert_eq!(database.count(dense).await, i64::try_from(RECORDS).unwrap());
    database.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_55_all_that_goes_into_two_files_is_stored_once_whatever_ends_between() {
    const EACH: u64 = 3_000;
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    let mut servers = tokio::task::JoinSet::new();
    for user in ["alice", "bob"] {
        let to = to.clone();
        servers.spawn(async move {
            let directory = tempfile::tempdir().unwrap();
            let ledger = open(&directory);
            let mut shipper = Shipper::start(&ledger, &to).await.unwrap();
            for n in 0..EACH {
                let mut call = model_call(user, time(DAY + n), n);
                call.response_id = Some(format!("{user} {n}").into());
                record(&ledger, call).await;
                if n % 10 == 0 {
                    let (answer, run) = (format!("{user} {}", n / 2), format!("run {n}"));
                    ledger.join_run(answer.into(), run.into(), None);
                }
                // Ended wherever it is: before a page, amid it, after its commit and before its mark.
                if n % 97 == 0 {
                    ledger.flush().await.unwrap();
                    let at = std::time::Duration::from_micros(n * 7_919 % 12_000);
                    let _ = tokio::time::timeout(at, shipper.flush()).await;
                    shipper.stop().await;
                    shipper = Shipper::start(&ledger, &to).await.unwrap();
                }
            }
            ledger.flush().await.unwrap();
            shipper.flush().await.unwrap();
            let (from, until) = always();
            let here: Vec<_> = ledger
                .export(user, from, until)
                .flat_map(Result::unwrap)
                .collect();
            let mut export = to.export(user, from, until);
            let mut there = Vec::new();
            while let Some(page) = export.next_page().await.unwrap() {
                there.extend(page);
            }
            assert_eq!(here.len() as u64, EACH);
            assert!(here == there, "the same records, joins and all");
            assert_eq!(shipper.backlog().unwrap(), Default::default());
        });
    }
    servers.join_all().await;
    let (from, until) = always();
    let sum = to.sum(None::<&str>, from, until).await.unwrap();
    assert_eq!(
        (sum.records, sum.total_tokens),
        (2 * EACH, EACH * (EACH - 1))
    );
    database.end().await;
}

#[tokio::test]
async fn a_kill_between_commit_and_mark_ships_again_and_stores_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    for n in 0..100 {
        record(&ledger, model_call("alice", time(DAY), n)).await;
    }
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    ledger.flush().await.unwrap();
    shipper.flush().await.unwrap();
    shipper.stop().await;
    // The file as it was before the mark.
    let unmark = "UPDATE token_usage_shipped SET up_to = 40";
    file(&directory).execute_batch(unmark).unwrap();
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    assert_eq!(shipper.backlog().unwrap().records, 60);
    shipper.flush().await.unwrap();
    let (from, until) = always();
    assert_eq!(to.sum("alice", from, until).await.unwrap().records, 100);
    database.end().await;
}

#[tokio::test]
async fn a_database_that_has_lost_something_or_is_another_one_is_shipped_what_it_misses() {
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    for n in 0..100 {
        let mut call = model_call("alice", time(DAY), n);
        call.response_id = Some(n.to_string().into());
        record(&ledger, call).await;
    }
    ledger.flush().await.unwrap();
    let (from, until) = always();
    let ship = async || {
        let shipper = Shipper::start(&ledger, &to).await.unwrap();
        shipper.flush().await.unwrap();
        shipper.stop().await;
        to.sum("alice", from, until).await.unwrap().records
    };
    assert_eq!(ship().await, 100);
    // Restored as it was after the sixtieth.
    database
        .run("DELETE FROM token_usage_logs WHERE number > 60; UPDATE token_usage_ledgers SET up_to = 60")
        .await;
    assert_eq!(ship().await, 100);
    // As it was before a change, of which nobody knows any more what it was of.
    ledger.join_run("7".into(), "run".into(), None);
    ledger.flush().await.unwrap();
    assert_eq!(ship().await, 100);
    database
        .run(
            "UPDATE token_usage_logs SET run_id = NULL; UPDATE token_usage_ledgers SET changes = 0",
        )
        .await;
    ship().await;
    let seven = to.find_by_response("7").await.unwrap();
    assert_eq!(seven[0].run_id.as_deref(), Some("run"));
    // Another one.
    database
        .run("DROP TABLE token_usage_logs, token_usage_ledgers, token_usage_answers, token_usage_schema")
        .await;
    assert_eq!(ship().await, 100);
    database.end().await;
}

#[tokio::test]
async fn d5_55_what_postgres_would_not_take_keeps_no_other_record_from_being_shipped() {
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    let random: String = (0..300)
        .map(|_| tower_usage::RecordId::new().to_string())
        .collect();
    let mut wild = Vec::new();
    for n in 0..200 {
        let mut call = model_call("alice", time(DAY + n), n);
        match n {
            // Longer than what can be in an index; what cannot be compressed.
            50 | 51 | 199 => call.subject = random.clone().into(),
            60 => call.model = Some("m\0odel".into()),
            61 => call.response_id = Some(random.clone().into()),
            62 => call.metadata = Some("no json".into()),
            63 => call.metadata = Some(r#"{"error":"\u0000"}"#.into()),
            64 => call.metadata = Some(format!(r#"{{"n":1{}}}"#, "0".repeat(300)).into()),
            65 => call.metadata = Some("[".repeat(50_000).into()),
            66 => call.subject = "al\0ice".into(),
            _ => {}
        }
        wild.push(call.clone());
        record(&ledger, call).await;
    }
    ledger.flush().await.unwrap();
    file(&directory)
        .execute_batch("UPDATE token_usage_logs SET operation = 'unheard of' WHERE seq = 100")
        .unwrap();
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    shipper.flush().await.unwrap();
    assert!(shipper.healthy());
    let backlog = shipper.backlog().unwrap();
    assert_eq!((backlog.records, backlog.refused), (0, 4));
    let (from, until) = always();
    let sum = to.sum(None::<&str>, from, until).await.unwrap();
    assert_eq!(sum.records, 196);
    let model = to
        .records("alice", time(DAY + 60), time(DAY + 61), 1, None)
        .await
        .unwrap();
    assert_eq!(model[0].model.as_deref(), Some("m\u{fffd}odel"));
    assert_eq!(
        to.find_by_response(&random).await.unwrap(),
        [wild[61].clone()]
    );
    let said = to
        .records("alice", time(DAY + 62), time(DAY + 63), 1, None)
        .await
        .unwrap();
    assert_eq!(said[0].metadata.as_deref(), Some(r#"{"text": "no json"}"#));
    assert_eq!(to.sum("al\0ice", from, until).await.unwrap().records, 1);

    // Put right, they are shipped.
    file(&directory)
        .execute_batch(
            "UPDATE token_usage_logs SET operation = 'model_call' WHERE seq = 100;
             UPDATE token_usage_logs SET user_id = 'carol' WHERE length(user_id) > 100",
        )
        .unwrap();
    shipper.flush().await.unwrap();
    let sum = to.sum(None::<&str>, from, until).await.unwrap();
    assert_eq!((sum.records, shipper.backlog().unwrap().refused), (200, 0));
    assert_eq!(to.sum("carol", from, until).await.unwrap().records, 3);
    database.end().await;
}

#[tokio::test]
async fn one_at_a_time_ships_a_ledger_until_it_is_closed() {
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let ledger =
        SqliteLedger::open(directory.path().join("ledger.db"), LedgerOptions::new()).unwrap();
    let shipper = Shipper::start(&ledger, &database.ledger()).await.unwrap();
    let another = Shipper::start(&ledger, &database.ledger()).await;
    assert!(matches!(another, Err(LedgerError::AlreadyShipping)));
    shipper.flush().await.unwrap();
    ledger.close().await.unwrap();
    // There is nothing to be shipped, so that nothing is waited for.
    shipper.flush().await.unwrap();
    assert_eq!(shipper.backlog().unwrap(), Default::default());
    shipper.stop().await;
    let late = Shipper::start(&ledger, &database.ledger()).await;
    assert!(matches!(late, Err(LedgerError::Closed)));
    database.end().await;
}
