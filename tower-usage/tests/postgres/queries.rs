//! What is asked of Postgres comes to what the files say.

use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use tower_usage::{
    NanoUsd, Operation, Outcome, Source, UsageRecord,
    postgres::{GroupBy, Shipper},
};

use crate::support::{DAY, Database, always, open, record, time};

fn any_name() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        "[a-cA-C]{0,2}".prop_map(Some),
        Just(Some("Ä \u{202e}🙂'\"\\".to_owned())),
    ]
}

fn any_tokens() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        Just(None),
        Just(Some(0)),
        (0..1_000_u64).prop_map(Some),
        Just(Some(u64::MAX))
    ]
}

prop_compose! {
    fn any_record()(
        user in 0..3_usize,
        // Some of the same millisecond, in several months.
        at in (0..40_u64, 0..3_u64),
        names in [any_name(), any_name(), any_name(), any_name()],
        tokens in [any_tokens(), any_tokens(), any_tokens(), any_tokens()],
        cost in prop_oneof![Just(None), any::<i64>().prop_map(Some), (0..99_i64).prop_map(Some)],
        kind in (any::<bool>(), 0..4_usize, 0..4_usize),
    ) -> UsageRecord {
        let operation = if kind.0 { Operation::Run } else { Operation::ModelCall };
        let mut record = UsageRecord::new(["alice", "bob", "Ünal"][user].into(), operation);
        record.admitted_at = time(DAY + at.0 * 86_400 * 3 + at.1);
        record.ended_at = record.admitted_at;
        let [model, session, run, response] = names.map(|name| name.map(Into::into));
        (record.model, record.session_key) = (model, session);
        (record.run_id, record.response_id) = (run, response);
        [record.tokens.input, record.tokens.output, record.tokens.cache_read, record.tokens.reasoning] = tokens;
        record.cost = cost.map(NanoUsd::from_nanos);
        record.source = [Source::Exact, Source::Estimated, Source::Invalid, Source::Observed][kind.1];
        record.outcome = [Outcome::Complete, Outcome::Aborted, Outcome::Failed, Outcome::Refused][kind.2];
        record
    }
}

#[tokio::test]
async fn d5_55_both_ledgers_give_the_same_answers() {
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    let mut runner = TestRunner::default();
    // Few enough that SQLite can add up the largest.
    let records = vec(any_record(), 900)
        .new_tree(&mut runner)
        .unwrap()
        .current();
    for wild in records {
        record(&ledger, wild).await;
    }
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    ledger.flush().await.unwrap();
    shipper.flush().await.unwrap();
    let (from, until) = always();
    let ranges = [
        (from, until),
        (time(DAY + 9 * 86_400), time(DAY + 60 * 86_400)),
        (until, from),
    ];
    for user in [
        None,
        Some("alice"),
        Some("bob"),
        Some("Ünal"),
        Some("nobody"),
    ] {
        for (from, until) in ranges {
            let sum = to.sum(user, from, until).await.unwrap();
            assert_eq!(sum, ledger.sum(user, from, until).unwrap());
            for by in [
                GroupBy::Day,
                GroupBy::Model,
                GroupBy::Session,
                GroupBy::User,
            ] {
                let totals = to.totals(user, from, until, by).await.unwrap();
                assert_eq!(totals, ledger.totals(user, from, until, by).unwrap());
            }
            let (mut seen, mut before) = (Vec::new(), None);
            loop {
                let page = to.records(user, from, until, 100, before).await.unwrap();
                let Some(last) = page.last() else { break };
                before = Some(last.id);
                seen.extend(page);
            }
            // Ids are in the order in which they were made, which is that of the file.
            let here = ledger.records(user, from, until, usize::MAX, None).unwrap();
            assert!(seen == here);
            let mut export = to.export(user, from, until);
            let page = export.next_page().await.unwrap().unwrap_or_default();
            seen.reverse();
            assert!(seen == page);
        }
    }
    let of_another = to.records("bob", from, until, 1, None).await.unwrap()[0].id;
    let none = to
        .records("alice", from, until, 9, Some(of_another))
        .await
        .unwrap();
    assert_eq!(none, []);
    let found = to.find_by_response("a").await.unwrap();
    assert_eq!(found.len(), ledger.find_by_response("a").unwrap().len());
    database.end().await;
}

#[tokio::test]
async fn an_export_goes_on_page_by_page_amid_one_time() {
    const RECORDS: u64 = 3_500;
    let Some(database) = Database::new().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let (ledger, to) = (open(&directory), database.ledger());
    for n in 0..RECORDS {
        let at = time(DAY + n / 3_000);
        record(&ledger, crate::support::model_call("alice", at, n)).await;
    }
    let shipper = Shipper::start(&ledger, &to).await.unwrap();
    ledger.flush().await.unwrap();
    shipper.flush().await.unwrap();
    let (from, until) = always();
    let mut export = to.export(None, from, until);
    let (mut next, mut pages) = (0, 0);
    while let Some(page) = export.next_page().await.unwrap() {
        for record in page {
            assert_eq!(record.tokens.input, Some(next));
            next += 1;
        }
        pages += 1;
    }
    assert_eq!((next, pages), (RECORDS, 4));
    assert_eq!(export.next_page().await.unwrap(), None);
    database.end().await;
}

#[tokio::test]
async fn sums_beyond_what_fits_are_the_largest_there_is() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    to.migrate().await.unwrap();
    database
        .run(
            "INSERT INTO token_usage_logs (id, ledger, number, user_id, operation, total_tokens, calls, cost_nano_usd,
                 source, outcome, admitted_at, created_at)
             SELECT gen_random_uuid(), gen_random_uuid(), n, 'alice', 'run', 9007199254740992, 1, -9007199254740992,
                 'exact', 'complete', now(), now() FROM generate_series(1, 3000) AS n",
        )
        .await;
    let (from, until) = always();
    let sum = to.sum("alice", from, until).await.unwrap();
    assert_eq!(sum.total_tokens, i64::MAX.unsigned_abs());
    assert_eq!((sum.cost.as_nanos(), sum.calls), (i64::MIN, 3_000));
    database.end().await;
}
