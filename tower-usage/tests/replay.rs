//! A request that is repeated and answered by the same answer is paid for once, by whatever way it came twice.
#![cfg(all(feature = "llm", feature = "sqlite"))]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full as FullBody;
use tempfile::TempDir;
use tower::{Layer, ServiceExt, service_fn};
use tower_usage::{
    NanoUsd, Place, RecordId, Source, TokenCounts, UsageLayer, UsageRecord,
    llm::{CallBody, ModelCallLayer},
    sqlite::{LedgerOptions, SettleFuture, SqliteLedger},
};

mod support;
use support::{
    Kept, Play,
    apis::{CHAT, Case, MESSAGES},
    http::{answer, bytes, meter},
    time,
};

fn open(directory: &TempDir) -> Arc<SqliteLedger> {
    SqliteLedger::open(directory.path().join("ledger.db"), LedgerOptions::new()).unwrap()
}

fn records(ledger: &SqliteLedger) -> Vec<UsageRecord> {
    let mut records = ledger
        .records(None, time(0), time(9_999), 99, None)
        .unwrap();
    records.sort_by_key(|record| record.id);
    records
}

/// What a client sends.
struct Sent<'a> {
    subject: &'a str,
    key: Option<&'a str>,
    body: &'a str,
}

const SENT: Sent<'_> = Sent {
    subject: "alice",
    key: Some("\"8e03978e-40d5-43dd-bc93-6894a57f9324\""),
    body: CHAT.whole,
};

/// Calls a provider that gives this answer; gives what the client got.
async fn call(
    ledger: Arc<dyn tower_usage::Sink>,
    case: &Case,
    sent: &Sent<'_>,
    json: &str,
) -> Bytes {
    let kind = match json.starts_with('{') {
        true => "application/json",
        false => "text/event-stream",
    };
    let res = answer(kind, Play::cut(json.as_bytes(), 100));
    let res = Arc::new(Mutex::new(Some(res)));
    let provider = service_fn(move |_: Request<CallBody>| {
        let res: Response<Play> = res.lock().unwrap().take().unwrap();
        ready(Ok::<_, Infallible>(res))
    });
    let mut request = Request::post(case.path)
        .body(FullBody::new(Bytes::copy_from_slice(sent.body.as_bytes())))
        .unwrap();
    request
        .extensions_mut()
        .insert::<Arc<str>>(sent.subject.into());
    if let Some(key) = sent.key {
        request
            .headers_mut()
            .insert("idempotency-key", key.parse().unwrap());
    }
    let metered = UsageLayer::new(meter(ledger)).layer(provider);
    let service = ModelCallLayer::new().layer(metered);
    bytes(service.oneshot(request).await.unwrap()).await
}

/// What each record is settled at, in the order of that.
type Settled = Arc<Mutex<Vec<(RecordId, u64, Option<NanoUsd>)>>>;

fn settle(ledger: &SqliteLedger) -> Settled {
    let settled = Settled::default();
    let settle = Arc::clone(&settled);
    ledger
        .start_settling(Arc::new(move |record: &UsageRecord| {
            let counted = (record.id, record.tokens.total(), record.cost);
            settle.lock().unwrap().push(counted);
            SettleFuture::ready(Ok(()))
        }))
        .unwrap();
    settled
}

#[track_caller]
fn assert_is_replay(record: &UsageRecord, original: &UsageRecord) {
    assert_eq!(record.tokens, TokenCounts::default());
    assert_eq!((record.cost, record.rate), (Some(NanoUsd::ZERO), None));
    assert_eq!(record.response_id, original.response_id);
    let metadata = format!(r#"{{"replay":"{}"}}"#, original.id);
    assert_eq!(record.metadata.as_deref(), Some(&*metadata));
    assert_eq!(original.metadata, None);
}

#[tokio::test]
async fn d5_53_d6_59_a_request_that_is_answered_by_the_same_answer_is_paid_once() {
    let stream = CHAT.stream();
    for (case, body, text) in [
        (&CHAT, CHAT.whole, CHAT.json),
        (&CHAT, CHAT.streamed, &*stream),
        (&MESSAGES, MESSAGES.whole, MESSAGES.json),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(&directory);
        let settled = settle(&ledger);
        let sent = Sent { body, ..SENT };
        for _ in 0..3 {
            assert_eq!(call(ledger.clone(), case, &sent, text).await, text);
            ledger.flush().await.unwrap();
        }
        let [first, second, third] = &records(&ledger)[..] else {
            panic!("each is recorded")
        };
        case.assert_told(first);
        assert_is_replay(second, first);
        assert_is_replay(third, first);
        let paid = (first.id, first.tokens.total(), first.cost);
        let free = |record: &UsageRecord| (record.id, 0, Some(NanoUsd::ZERO));
        assert_eq!(*settled.lock().unwrap(), [paid, free(second), free(third)]);
        let sum = ledger.sum("alice", time(0), time(9_999)).unwrap();
        assert_eq!((sum.records, sum.total_tokens), (3, first.tokens.total()));
        assert_eq!((Some(sum.cost), sum.unpriced), (first.cost, 0));
    }
}

#[tokio::test]
async fn d5_53_what_is_repeated_at_once_is_paid_once() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let settled = settle(&ledger);
    let calls: Vec<_> = (0..12)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move { call(ledger, &CHAT, &SENT, CHAT.json).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    ledger.flush().await.unwrap();
    let records = records(&ledger);
    assert_eq!(records.len(), 12);
    let paid: Vec<_> = records
        .iter()
        .filter(|record| record.tokens.total() > 0)
        .collect();
    let [original] = paid[..] else {
        panic!("one is paid: {paid:?}")
    };
    for record in records.iter().filter(|record| record.id != original.id) {
        assert_is_replay(record, original);
    }
    let settled = settled.lock().unwrap();
    let tokens: u64 = settled.iter().map(|(_, tokens, _)| tokens).sum();
    assert_eq!((settled.len(), tokens), (12, original.tokens.total()));
}

#[tokio::test]
async fn d5_53_what_worked_twice_is_paid_twice() {
    let other_id = CHAT.json.replace("chatcmpl-1", "chatcmpl-2");
    let other_usage = CHAT
        .json
        .replace(r#""completion_tokens":20"#, r#""completion_tokens":21"#);
    let without_id = CHAT.json.replace(r#""id":"chatcmpl-1","#, "");
    let no_key = || Sent { key: None, ..SENT };
    let bob = Sent {
        subject: "bob",
        ..SENT
    };
    let other_key = Sent {
        key: Some("k"),
        ..SENT
    };
    let other_body = Sent {
        body: r#"{"model":"asked","messages":[1]}"#,
        ..SENT
    };
    for (what, first, second, json, again) in [
        ("another answer", SENT, SENT, CHAT.json, &*other_id),
        ("another usage", SENT, SENT, CHAT.json, &other_usage),
        (
            "an answer without an id",
            SENT,
            SENT,
            &without_id,
            &without_id,
        ),
        ("no key", no_key(), no_key(), CHAT.json, CHAT.json),
        ("another subject", SENT, bob, CHAT.json, CHAT.json),
        ("another key", SENT, other_key, CHAT.json, CHAT.json),
        ("another request", SENT, other_body, CHAT.json, CHAT.json),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(&directory);
        call(ledger.clone(), &CHAT, &first, json).await;
        call(ledger.clone(), &CHAT, &second, again).await;
        ledger.flush().await.unwrap();
        let records = records(&ledger);
        assert_eq!(records.len(), 2, "{what}");
        for record in records {
            assert!(record.cost > Some(NanoUsd::ZERO), "{what}: {record:?}");
            assert_eq!(record.metadata, None, "{what}");
        }
    }
}

#[tokio::test]
async fn d5_53_an_id_that_a_provider_gives_to_all_answers_makes_none_of_them_free() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let bob = Sent {
        subject: "bob",
        key: None,
        ..SENT
    };
    call(ledger.clone(), &CHAT, &SENT, CHAT.json).await;
    call(ledger.clone(), &CHAT, &SENT, CHAT.json).await;
    call(ledger.clone(), &CHAT, &bob, CHAT.json).await;
    call(ledger.clone(), &CHAT, &SENT, CHAT.json).await;
    ledger.flush().await.unwrap();
    let records = records(&ledger);
    let is_paid: Vec<_> = records
        .iter()
        .map(|record| record.tokens.total() > 0)
        .collect();
    assert_eq!(
        is_paid,
        [true, false, true, true],
        "bob was answered by it, too"
    );

    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    for _ in 0..20 {
        call(ledger.clone(), &CHAT, &SENT, CHAT.json).await;
    }
    ledger.flush().await.unwrap();
    let records = self::records(&ledger);
    let paid = records.iter().filter(|record| record.tokens.total() > 0);
    assert_eq!(paid.count(), 1 + 4, "nobody repeats one request so often");
}

#[tokio::test]
async fn d5_53_an_answer_that_was_cut_off_is_no_original() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let streamed = Sent {
        body: CHAT.streamed,
        ..SENT
    };
    let cut: String = CHAT.events[..2].join("\n\n") + "\n\n";
    call(ledger.clone(), &CHAT, &streamed, &cut).await;
    for _ in 0..2 {
        call(ledger.clone(), &CHAT, &streamed, &CHAT.stream()).await;
    }
    ledger.flush().await.unwrap();
    let [cut, whole, replay] = &records(&ledger)[..] else {
        panic!()
    };
    assert_eq!(cut.source, Source::Estimated);
    CHAT.assert_told(whole);
    assert_is_replay(replay, whole);
}

#[tokio::test]
async fn d5_53_a_crash_between_a_request_and_its_repetition_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for times in 1..=3 {
        // Nobody settles: each is stored, and the process ends.
        let ledger = open(&directory);
        call(ledger.clone(), &CHAT, &SENT, CHAT.json).await;
        ledger.close().await.unwrap();
        drop(ledger);
        let ledger = open(&directory);
        assert_eq!(records(&ledger).len(), times);
        ledger.close().await.unwrap();
    }
    let ledger = open(&directory);
    let [first, second, third] = &records(&ledger)[..] else {
        panic!()
    };
    CHAT.assert_told(first);
    assert_is_replay(second, first);
    assert_is_replay(third, first);
    let settled = settle(&ledger);
    ledger.flush().await.unwrap();
    let free = |record: &UsageRecord| (record.id, 0, Some(NanoUsd::ZERO));
    let paid = (first.id, first.tokens.total(), first.cost);
    assert_eq!(*settled.lock().unwrap(), [paid, free(second), free(third)]);
}

#[tokio::test]
async fn d5_53_recorded_twice_is_still_the_original() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(&directory);
    let sink = Kept::new();
    call(sink.clone(), &CHAT, &SENT, CHAT.json).await;
    let original = sink.only();
    let mut again = original.clone();
    again.id = RecordId::new();
    for record in [&original, &again, &original, &again] {
        Place::take(ledger.clone()).unwrap().record(record.clone());
        ledger.flush().await.unwrap();
    }
    let [first, replay] = &records(&ledger)[..] else {
        panic!("one row of an id")
    };
    assert_eq!((first.id, first.cost), (original.id, original.cost));
    assert_is_replay(replay, first);
}
