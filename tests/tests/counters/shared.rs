//! What is done at one gateway and shows at the others.

use std::{collections::BTreeSet, time::Duration};

use ::http::{Method, StatusCode};
use gateway_tests::{
    browser::Browser, error::Result, http, kit::Kit, person::Person, redis::Redis, secret,
    webhook::Webhook,
};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::fleet::Fleet;

const CALL: &str = "[[in=1]] [[out=0]]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_and_alerts_are_those_of_all_gateways_that_share_redis() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let redis = Redis::start(dir.path()).await?;
    limits_and_alerts(&kit, Some(&redis.url())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_and_alerts_are_those_of_all_gateways_that_share_postgres() -> Result<()> {
    limits_and_alerts(&Kit::from_env()?, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_visit_at_two_gateways_at_once_makes_one_environment() -> Result<()> {
    let kit = Kit::from_env()?;
    let fleet = Fleet::start(&kit, 1_000_000, &kit.database().await?, None, "").await?;
    let name = format!("{}-twice", secret::mark()?);
    let mut visits = JoinSet::new();
    for gateway in &fleet.gateways {
        let person = Person::sign_in(&kit, &name, gateway).await?;
        visits.spawn(async move { person.open().await });
    }
    let mut sockets = Vec::new();
    for socket in visits.join_all().await {
        sockets.push(socket?);
    }
    assert_eq!(fleet.keys_of(&name).await, 1);
    for mut socket in sockets {
        let turn = socket.turn("hello").await?;
        assert_eq!(turn.state, "final", "{}", turn.text);
    }
    Ok(())
}

async fn limits_and_alerts(kit: &Kit, redis: Option<&str>) -> Result<()> {
    let webhook = Webhook::start(StatusCode::NO_CONTENT).await?;
    let more = format!(
        "\n[alerts]\nwebhook_url = \"{}\"\nwebhook_secret = \"{}\"\n",
        webhook.url("/"),
        secret::webhook()?
    );
    let fleet = Fleet::start(kit, 1_000, &kit.database().await?, redis, &more).await?;
    let name = format!("{}-shared", secret::mark()?);
    fleet.person(&name).await;
    let mut admin = Browser::new();
    admin.sign_in_at(&fleet.gateways[0], "admin").await?;
    let quota = fleet.gateways[0].url(&format!("/api/admin/users/{name}/quota"));
    let callers: Vec<_> = (0..3).map(|n| fleet.caller(n, &name)).collect();
    for caller in &callers {
        assert_eq!(caller.decided(CALL, 1).await, StatusCode::OK);
    }
    let mut lowered_and_raised = Vec::new();
    for (version, limit, status) in [
        (0, 0, StatusCode::TOO_MANY_REQUESTS),
        (1, 100, StatusCode::OK),
    ] {
        let limit = json!({"dimension": "tokens", "window": "day", "limit": limit});
        let wanted = json!({"version": version, "limits": [limit]}).to_string();
        let set = admin.fetch(Method::PUT, &quota, &wanted).await?;
        set.expect_status(StatusCode::OK)?;
        let set = Instant::now();
        for caller in &callers {
            assert_eq!(caller.decided(CALL, 1).await, status);
        }
        lowered_and_raised.push(set.elapsed());
    }
    println!("in force at all gateways after {lowered_and_raised:?}");
    assert!(
        lowered_and_raised
            .iter()
            .all(|took| *took < Duration::from_secs(1))
    );

    // All the rest, everywhere: each threshold is crossed under many eyes.
    let mut calls = JoinSet::new();
    for n in 0..6 {
        let caller = callers[n % 3].clone();
        calls.spawn(async move {
            let (mut admitted, mut refused) = (0, 0);
            // While others hold what is left, one is refused that will be left again.
            while refused < 20 {
                match caller.decided(CALL, 1).await {
                    StatusCode::OK => (admitted, refused) = (admitted + 1, 0),
                    _ => {
                        refused += 1;
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            admitted
        });
    }
    let admitted: u64 = calls.join_all().await.into_iter().sum();
    assert_eq!(admitted, 100 - 6);
    let deadline = Instant::now() + Duration::from_secs(30);
    let (token, mut shown) = (kit.issuer().token(&name).await?, Vec::new());
    while shown.len() < 3 && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
        let alerts = http::get(&fleet.gateways[2].url("/api/alerts"), Some(&token)).await?;
        let alerts: Value = alerts.expect_status(StatusCode::OK)?.json()?;
        shown = alerts["alerts"].as_array().cloned().unwrap_or_default();
    }
    let thresholds: Vec<_> = shown
        .iter()
        .rev()
        .map(|alert| alert["threshold"].as_u64())
        .collect();
    assert_eq!(
        thresholds,
        [Some(80), Some(90), Some(100)],
        "once each, and in order"
    );
    while webhook.deliveries().len() < 3 && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(1)).await;
    let delivered = webhook.deliveries();
    let ids: BTreeSet<_> = delivered
        .iter()
        .map(|delivery| delivery.header("webhook-id"))
        .collect();
    assert_eq!((delivered.len(), ids.len()), (3, 3), "by one gateway each");
    Ok(())
}
