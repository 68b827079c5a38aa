use std::{
    env,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tower_usage::{Claims, RecordId};

use crate::server::{
    Server, answer, pays_for_what_is_unlike, pays_once, pays_where_an_id_says_nothing, stored,
};

/// `None`, and the test says that it does nothing, if there is no server.
async fn two() -> Option<[Server; 2]> {
    let Ok(url) = env::var("TOWER_USAGE_TEST_REDIS") else {
        println!("not tested: TOWER_USAGE_TEST_REDIS is not set");
        return None;
    };
    let one = async || Server::start(Claims::redis(&url).await.unwrap());
    Some([one().await, one().await])
}

/// What no other test names so.
fn mark() -> String {
    RecordId::new().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_53_what_two_servers_were_asked_at_once_is_paid_for_once() {
    let Some([one, two]) = two().await else {
        return;
    };
    pays_once(&one, &two, &mark()).await;
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn d5_53_what_is_not_the_same_is_paid_for_by_each() {
    let Some([one, two]) = two().await else {
        return;
    };
    pays_for_what_is_unlike(&one, &two, &mark()).await;
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn an_id_that_all_answers_have_says_nothing() {
    let Some([one, two]) = two().await else {
        return;
    };
    let mark = mark();
    let mut other = answer("of another request", &mark);
    other.subject = "carol".into();
    one.record(other);
    one.record(answer("key", &mark));
    stored(&[&one], 2).await;
    pays_where_an_id_says_nothing(&one, &two, &mark).await;
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn an_answer_that_is_claimed_without_end_is_none() {
    let Some([one, two]) = two().await else {
        return;
    };
    let mark = mark();
    one.record(answer("key", &mark));
    stored(&[&one], 1).await;
    // The second's ledger knows nothing of the first's, so that all it knows is what Redis says.
    for count in 1..=20 {
        two.record(answer("key", &mark));
        stored(&[&two], count).await;
    }
    let texts = two.metadata();
    let replays = texts.iter().filter(|text| text.contains("replay")).count();
    assert_eq!(replays, 15, "sixteen claims are believed: {texts:?}");
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn while_redis_is_away_all_is_recorded_and_says_so() {
    let port = free_port();
    let mut redis = start(port);
    let url = format!("redis://127.0.0.1:{port}");
    let claims = claims(&url).await;
    let server = Server::start(claims);
    server.record(answer("before", "r1"));
    stored(&[&server], 1).await;

    redis.kill().unwrap();
    redis.wait().unwrap();
    server.record(answer("during", "r2"));
    stored(&[&server], 2).await;
    let texts = server.metadata();
    let unclaimed = texts
        .iter()
        .filter(|text| text.contains(r#""unclaimed":true"#));
    assert_eq!((unclaimed.count(), server.unclaimed()), (1, 1));
    assert_eq!(server.cost().as_nanos(), 2_000);

    // It comes back by itself.
    let mut redis = start(port);
    for round in 0.. {
        assert!(round < 20, "Redis is not found again");
        let before = server.unclaimed();
        server.record(answer("after", &format!("after {round}")));
        stored(&[&server], 3 + round).await;
        if server.unclaimed() == before {
            break;
        }
    }
    redis.kill().unwrap();
    redis.wait().unwrap();
    server.end().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_without_its_password() {
    for url in ["no url", "redis://:canary@127.0.0.1:1"] {
        let refused = Claims::redis(url).await.unwrap_err().to_string();
        assert!(!refused.contains("canary"), "{refused}");
        assert!(refused.contains("Redis"), "{refused}");
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn start(port: u16) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--port"])
        .arg(port.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Once the server is there.
async fn claims(url: &str) -> Claims {
    for _ in 0..50 {
        if let Ok(claims) = Claims::redis(url).await {
            return claims;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("Redis does not start");
}
