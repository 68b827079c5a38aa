//! What came to two servers is paid for at one.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::runtime::Handle;
use tower_usage::{
    NanoUsd, Place, Sink, Source, UsageRecord,
    postgres::{Once, PostgresLedger, Shipper},
    sqlite::SqliteLedger,
};

use crate::support::{DAY, Database, always, model_call, open, time};

struct Server {
    _directory: TempDir,
    ledger: Arc<SqliteLedger>,
    once: Arc<Once>,
    shipper: Shipper,
}

// === impl Server ===

impl Server {
    async fn start(to: &PostgresLedger) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(&directory);
        Self {
            once: Arc::new(Once::new(ledger.clone(), to.clone(), &Handle::current())),
            shipper: Shipper::start(&ledger, to).await.unwrap(),
            _directory: directory,
            ledger,
        }
    }

    fn record(&self, record: UsageRecord) {
        let sink: Arc<dyn Sink> = self.once.clone();
        Place::take(sink).unwrap().record(record);
    }

    /// Waits for what has a place, too.
    async fn end(self) {
        self.ledger.close().await.unwrap();
    }
}

/// The usage of an answer to a request that its client named.
fn answer(key: &str, response_id: &str) -> UsageRecord {
    let mut record = model_call("alice", time(DAY), 100);
    record.idempotency_key = Some(key.into());
    record.response_id = Some(response_id.into());
    record.source = Source::Exact;
    record
}

fn cost(ledger: &SqliteLedger) -> NanoUsd {
    let (from, to) = always();
    ledger.sum("alice", from, to).unwrap().cost
}

fn metadata(ledger: &SqliteLedger) -> Vec<String> {
    let (from, to) = always();
    let records = ledger.records(None, from, to, 999, None).unwrap();
    let of = |record: UsageRecord| record.metadata.unwrap_or_default().to_string();
    records.into_iter().map(of).collect()
}

async fn stored(servers: &[&Server], count: usize) {
    for _ in 0..500 {
        let all: usize = servers.iter().map(|it| metadata(&it.ledger).len()).sum();
        if all == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not all are stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_53_what_two_servers_were_asked_at_once_is_paid_for_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    let (one, two) = (Server::start(&to).await, Server::start(&to).await);
    to.migrate().await.unwrap();
    for round in 0..100 {
        let again =
            |server: &Server| server.record(answer(&format!("k{round}"), &format!("r{round}")));
        again(&one);
        again(&two);
    }
    stored(&[&one, &two], 200).await;
    let paid = cost(&one.ledger).as_nanos() + cost(&two.ledger).as_nanos();
    assert_eq!(paid, 100 * 1_000, "each of them once");
    let all = [metadata(&one.ledger), metadata(&two.ledger)].concat();
    let replays = all.iter().filter(|text| text.contains(r#""replay":""#));
    assert_eq!(replays.count(), 100);

    one.shipper.flush().await.unwrap();
    two.shipper.flush().await.unwrap();
    let (from, until) = always();
    let sum = to.sum("alice", from, until).await.unwrap();
    assert_eq!((sum.cost.as_nanos(), sum.records), (100_000, 200));
    assert_eq!(one.once.unclaimed() + two.once.unclaimed(), 0);
    one.end().await;
    two.end().await;
    database.end().await;
}

#[tokio::test]
async fn d5_53_what_is_not_the_same_is_paid_for_by_each() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    to.migrate().await.unwrap();
    let (one, two) = (Server::start(&to).await, Server::start(&to).await);
    one.record(answer("key", "response"));
    stored(&[&one], 1).await;
    let mut unlike = vec![answer("another key", "response"), answer("key", "another")];
    let mut of_bob = answer("key", "response");
    of_bob.subject = "bob".into();
    unlike.push(of_bob);
    let mut longer = answer("key", "response");
    longer.tokens.output = Some(1);
    unlike.push(longer);
    let mut estimated = answer("key", "response");
    estimated.source = Source::Estimated;
    unlike.push(estimated);
    let mut unnamed = answer("key", "response");
    unnamed.idempotency_key = None;
    unlike.push(unnamed);
    let count = unlike.len();
    for record in unlike {
        two.record(record);
    }
    stored(&[&two], count).await;
    let texts = metadata(&two.ledger);
    assert!(
        texts.iter().all(|text| !text.contains("replay")),
        "{texts:?}"
    );
    one.end().await;
    two.end().await;
    database.end().await;
}

#[tokio::test]
async fn an_id_that_all_answers_have_says_nothing() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    let (one, two) = (Server::start(&to).await, Server::start(&to).await);
    let mut other = answer("of another request", "same");
    other.subject = "carol".into();
    one.record(other);
    one.record(answer("key", "same"));
    stored(&[&one], 2).await;
    one.shipper.flush().await.unwrap();
    two.record(answer("key", "same"));
    stored(&[&two], 1).await;
    assert_eq!(
        cost(&two.ledger).as_nanos(),
        1_000,
        "the provider worked again"
    );
    one.end().await;
    two.end().await;
    database.end().await;
}

#[tokio::test]
async fn while_the_database_is_away_all_is_recorded_and_says_so() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    let server = Server::start(&to).await;
    server.shipper.flush().await.unwrap();
    database
        .run("ALTER TABLE token_usage_answers RENAME TO elsewhere")
        .await;
    server.record(answer("key", "response"));
    let mut unnamed = answer("key", "response");
    unnamed.idempotency_key = None;
    server.record(unnamed);
    stored(&[&server], 2).await;
    let texts = metadata(&server.ledger);
    let unclaimed = texts
        .iter()
        .filter(|text| text.contains(r#""unclaimed":true"#));
    assert_eq!((unclaimed.count(), server.once.unclaimed()), (1, 1));
    assert_eq!(cost(&server.ledger).as_nanos(), 2_000);
    server.end().await;
    database.end().await;
}

#[tokio::test]
async fn what_was_answered_long_ago_is_forgotten() {
    let Some(database) = Database::new().await else {
        return;
    };
    let to = database.ledger();
    to.migrate().await.unwrap();
    database
        .run(
            "INSERT INTO token_usage_answers (name, record, claimed_at) VALUES
             ('old', gen_random_uuid(), now() - interval '8 days'), ('new', gen_random_uuid(), now())",
        )
        .await;
    let server = Server::start(&to).await;
    server.record(answer("key", "response"));
    let old = "SELECT count(*) FROM token_usage_answers WHERE name = 'old'";
    for _ in 0..500 {
        if database.count(old).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(database.count(old).await, 0);
    let all = "SELECT count(*) FROM token_usage_answers";
    assert_eq!(database.count(all).await, 2);
    server.end().await;
    database.end().await;
}
