//! Servers that share where they claim, and what holds for them whatever that is.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::runtime::Handle;
use tower_usage::{Claims, NanoUsd, Once, Place, Sink, Source, UsageRecord, sqlite::SqliteLedger};

use crate::support::{DAY, always, model_call, open, time};

pub(crate) struct Server {
    _directory: TempDir,
    pub(crate) ledger: Arc<SqliteLedger>,
    once: Arc<Once>,
}

// === impl Server ===

impl Server {
    pub(crate) fn start(claims: Claims) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(&directory);
        Self {
            once: Arc::new(Once::new(ledger.clone(), claims, &Handle::current())),
            _directory: directory,
            ledger,
        }
    }

    pub(crate) fn record(&self, record: UsageRecord) {
        let sink: Arc<dyn Sink> = self.once.clone();
        Place::take(sink).unwrap().record(record);
    }

    pub(crate) fn unclaimed(&self) -> u64 {
        self.once.unclaimed()
    }

    pub(crate) fn cost(&self) -> NanoUsd {
        let (from, to) = always();
        self.ledger.sum("alice", from, to).unwrap().cost
    }

    pub(crate) fn metadata(&self) -> Vec<String> {
        let (from, to) = always();
        let records = self.ledger.records(None, from, to, 999, None).unwrap();
        let of = |record: UsageRecord| record.metadata.unwrap_or_default().to_string();
        records.into_iter().map(of).collect()
    }

    /// Waits for what has a place, too.
    pub(crate) async fn end(self) {
        self.ledger.close().await.unwrap();
    }
}

/// The usage of an answer to a request that its client named.
pub(crate) fn answer(key: &str, response_id: &str) -> UsageRecord {
    let mut record = model_call("alice", time(DAY), 100);
    record.idempotency_key = Some(key.into());
    record.response_id = Some(response_id.into());
    record.source = Source::Exact;
    record
}

pub(crate) async fn stored(servers: &[&Server], count: usize) {
    for _ in 0..2_000 {
        let all: usize = servers.iter().map(|it| it.metadata().len()).sum();
        if all == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not all are stored");
}

/// A hundred answers come to two servers at the same time: each is paid for once. What providers name in the test begins
/// with `mark`.
pub(crate) async fn pays_once(one: &Server, two: &Server, mark: &str) {
    for round in 0..100 {
        for server in [one, two] {
            server.record(answer(&format!("k{round}"), &format!("{mark}{round}")));
        }
    }
    stored(&[one, two], 200).await;
    let paid = one.cost().as_nanos() + two.cost().as_nanos();
    assert_eq!(paid, 100 * 1_000, "each of them once");
    let all = [one.metadata(), two.metadata()].concat();
    let replays = all.iter().filter(|text| text.contains(r#""replay":""#));
    assert_eq!(replays.count(), 100);
    assert_eq!(one.unclaimed() + two.unclaimed(), 0);
}

/// What differs in anything is another answer.
pub(crate) async fn pays_for_what_is_unlike(one: &Server, two: &Server, mark: &str) {
    let id = |name: &str| format!("{mark}{name}");
    let mut unlike = vec![answer("key", &id("another"))];
    let mut longer = answer("key", &id("response"));
    longer.tokens.output = Some(1);
    unlike.push(longer);
    let mut estimated = answer("key", &id("response"));
    estimated.source = Source::Estimated;
    unlike.push(estimated);
    let mut unnamed = answer("key", &id("response"));
    unnamed.idempotency_key = None;
    unlike.push(unnamed);
    // From here on the provider has given the id twice.
    unlike.push(answer("another key", &id("response")));
    let mut of_bob = answer("key", &id("response"));
    of_bob.subject = "bob".into();
    unlike.push(of_bob);

    one.record(answer("key", &id("response")));
    stored(&[one], 1).await;
    for (count, record) in unlike.into_iter().enumerate() {
        two.record(record);
        stored(&[two], count + 1).await;
    }
    let texts = two.metadata();
    assert!(
        texts.iter().all(|text| !text.contains("replay")),
        "{texts:?}"
    );
}

/// A provider that gives one id to the answers of many works for each of them.
pub(crate) async fn pays_where_an_id_says_nothing(one: &Server, two: &Server, mark: &str) {
    two.record(answer("key", mark));
    stored(&[two], 1).await;
    assert_eq!(two.cost().as_nanos(), 1_000, "the provider worked again");
    assert_eq!(one.cost().as_nanos(), 1_000, "for one's own, too");
}
