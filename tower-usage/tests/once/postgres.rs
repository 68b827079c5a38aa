use std::time::Duration;

use tower_usage::{Claims, postgres::Shipper};

use crate::{
    server::{
        Server, answer, pays_for_what_is_unlike, pays_once, pays_where_an_id_says_nothing, stored,
    },
    support::{Database, always},
};

/// Two servers, and what ships their ledgers.
async fn two(database: &Database) -> [(Server, Shipper); 2] {
    let to = database.ledger();
    to.migrate().await.unwrap();
    let one = async || {
        let server = Server::start(Claims::postgres(to.clone()));
        let shipper = Shipper::start(&server.ledger, &to).await.unwrap();
        (server, shipper)
    };
    [one().await, one().await]
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_53_what_two_servers_were_asked_at_once_is_paid_for_once() {
    let Some(database) = Database::new().await else {
        return;
    };
    let [(one, ships_one), (two, ships_two)] = two(&database).await;
    pays_once(&one, &two, "r").await;

    ships_one.flush().await.unwrap();
    ships_two.flush().await.unwrap();
    let (from, until) = always();
    let sum = database.ledger().sum("alice", from, until).await.unwrap();
    assert_eq!((sum.cost.as_nanos(), sum.records), (100_000, 200));
    one.end().await;
    two.end().await;
    database.end().await;
}

#[tokio::test]
async fn d5_53_what_is_not_the_same_is_paid_for_by_each() {
    let Some(database) = Database::new().await else {
        return;
    };
    let [(one, _ships_one), (two, _ships_two)] = two(&database).await;
    pays_for_what_is_unlike(&one, &two, "r").await;
    one.end().await;
    two.end().await;
    database.end().await;
}

#[tokio::test]
async fn an_id_that_all_answers_have_says_nothing() {
    let Some(database) = Database::new().await else {
        return;
    };
    let [(one, ships), (two, _ships_two)] = two(&database).await;
    let mut other = answer("of another request", "same");
    other.subject = "carol".into();
    one.record(other);
    one.record(answer("key", "same"));
    stored(&[&one], 2).await;
    ships.flush().await.unwrap();
    pays_where_an_id_says_nothing(&one, &two, "same").await;
    one.end().await;
    two.end().await;
    database.end().await;
}

#[tokio::test]
async fn while_the_database_is_away_all_is_recorded_and_says_so() {
    let Some(database) = Database::new().await else {
        return;
    };
    let [(server, shipper), _] = two(&database).await;
    shipper.flush().await.unwrap();
    database
        .run("ALTER TABLE token_usage_answers RENAME TO elsewhere")
        .await;
    server.record(answer("key", "response"));
    let mut unnamed = answer("key", "response");
    unnamed.idempotency_key = None;
    server.record(unnamed);
    stored(&[&server], 2).await;
    let texts = server.metadata();
    let unclaimed = texts
        .iter()
        .filter(|text| text.contains(r#""unclaimed":true"#));
    assert_eq!((unclaimed.count(), server.unclaimed()), (1, 1));
    assert_eq!(server.cost().as_nanos(), 2_000);
    server.end().await;
    database.end().await;
}

#[tokio::test]
async fn what_was_answered_long_ago_is_forgotten() {
    let Some(database) = Database::new().await else {
        return;
    };
    let [(server, _ships), _] = two(&database).await;
    database
        .run(
            "INSERT INTO token_usage_answers (name, record, claimed_at) VALUES
             ('old', gen_random_uuid(), now() - interval '8 days'), ('new', gen_random_uuid(), now())",
        )
        .await;
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
