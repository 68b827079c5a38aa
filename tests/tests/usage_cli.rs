//! What people have used, by `gateway usage` on the gateway's host: shown, and priced afterwards.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::Path, time::Duration};

use ::http::{Request, StatusCode};
use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, command_by_socket, person_with_key, person_with_shared_key},
    http,
    kit::Kit,
    redis::Redis,
    secret,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// What `gateway usage` answers.
async fn usage(dir: &Path, arguments: &[&str]) -> Value {
    let arguments = [&["usage"], arguments, &["--json"]].concat();
    let said = command_by_socket(dir, &arguments).await.expect("it runs");
    said.json().expect("an answer")
}

/// The same, again and again until it is as it should be.
async fn usage_becomes(dir: &Path, arguments: &[&str], is: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = usage(dir, arguments).await;
        if is(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{arguments:?}: {answer}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn call(gateway: &Gateway, key: &str, name: &str, model: &str) -> Result<StatusCode> {
    let message = format!("{name} [[in=1000]] [[out=100]]");
    let body = json!({
        "model": model, "max_tokens": 100, "messages": [{"role": "user", "content": message}],
    });
    let url = gateway.egress_url("/openai/v1/chat/completions");
    Ok(http::post(&url, Some(key), &body).await?.status)
}

/// Takes the price of a model out of a configuration.
fn take_price(config: &mut Config, model: &str) -> String {
    let head = format!("\n[[price]]\nmodel = \"{model}\"\n");
    let (before, rest) = config.text.split_once(&head).expect("a price");
    let end = rest.find("\n[").unwrap_or(rest.len());
    let (price, after) = rest.split_at(end);
    let price = format!("{head}{price}\n");
    config.text = format!("{before}{after}");
    price
}

/// A gateway that knows no price of `test-large`, somebody's virtual key, and the price.
async fn start(mut config: Config, dir: &Path, name: &str) -> Result<(Gateway, String, String)> {
    let price = take_price(&mut config, "test-large");
    config.text += &format!(
        "\n[prices]\nunknown = \"record\"\n\n[usage]\njson_lines = \"{}\"\n",
        dir.join("usage.jsonl").display()
    );
    let mut gateway = Gateway::start(config, dir).await?;
    gateway.kill().await?;
    let key = person_with_key(dir, name)?;
    gateway.start_again().await?;
    Ok((gateway, key, price))
}

/// Waits until a metric is there, with its value.
async fn metric(gateway: &Gateway, line: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = http::get(&gateway.admin_url("/metrics"), None)
            .await?
            .text();
        if metrics.lines().any(|found| found == line) {
            return Ok(());
        }
        assert!(Instant::now() < deadline, "{line}: {metrics}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_had_no_price_is_recorded_and_priced_when_there_is_one() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let name = secret::mark()?;
    let (mut gateway, key, price) = start(Config::new(&kit, dir)?, dir, &name).await?;
    for model in ["test-small", "test-large"] {
        assert_eq!(call(&gateway, &key, &name, model).await?, StatusCode::OK);
    }

    let all = |answer: &Value| answer["total"]["totalTokens"] == 2200;
    let before = usage_becomes(dir, &["show", &name, "--by", "model"], all).await;
    assert_eq!(before["total"]["cost"], "0.0045", "{before}");
    assert_eq!(before["total"]["unpriced"], 1, "{before}");
    // What is not settled yet is left to the next time.
    let settled = |answer: &Value| answer["unsettled"] == 0;
    let nothing = usage_becomes(dir, &["reprice"], settled).await;
    let told = (&nothing["records"], &nothing["unpriced"]);
    assert_eq!(told, (&json!(0), &json!(1)));

    // A price that is wrong changes nothing, one that is right is in force at once.
    let good = gateway.config().clone();
    let mut wrong = good.clone();
    wrong.text += &price.replace("3.00", "-3.00");
    gateway.reload(wrong)?;
    let refused = "gateway_config_reloads_total{result=\"refused\"} 1";
    metric(&gateway, refused).await?;
    assert_eq!(usage(dir, &["reprice"]).await["records"], 0);
    let mut priced = good;
    priced.text += &price;
    gateway.reload(priced)?;
    metric(&gateway, "gateway_config_reloads_total{result=\"ok\"} 1").await?;
    let repriced = usage(dir, &["reprice"]).await;
    let told =
        json!({"records": 1, "cost": "0.0045", "unpriced": 0, "unsettled": 0, "uncounted": 0});
    assert_eq!(repriced, told);
    assert_eq!(usage(dir, &["reprice"]).await["records"], 0, "once");
    let answered = call(&gateway, &key, &name, "test-large").await?;
    assert_eq!(answered, StatusCode::OK);
    let all = |answer: &Value| answer["total"]["totalTokens"] == 3300;
    let after = usage_becomes(dir, &["show", &name], all).await;
    assert_eq!(after["total"]["cost"], "0.0135", "{after}");
    assert_eq!(after["total"]["unpriced"], 0, "{after}");

    // Counters know what it cost, and the copy has every record, as it was when it was recorded.
    let token = kit.issuer().token(&name).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let quota = http::get(&gateway.url("/api/quota"), Some(&token)).await?;
        let quota = quota.json()?;
        let limits = quota["limits"].as_array().into_iter().flatten();
        let mut cost = limits.filter(|limit| limit["dimension"] == "cost");
        if cost.next().expect("a limit")["used"] == "0.0135" {
            break;
        }
        assert!(Instant::now() < deadline, "{quota}");
        sleep(Duration::from_millis(100)).await;
    }
    let lines = loop {
        let lines = fs::read_to_string(dir.join("usage.jsonl")).expect("the copy");
        if lines.lines().count() == 3 {
            break lines;
        }
        assert!(Instant::now() < deadline, "{lines}");
        sleep(Duration::from_millis(100)).await;
    };
    let costs: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["cost"].take())
        .collect();
    assert_eq!(costs, [json!("0.0045"), Value::Null, json!("0.0045")]);
    let metrics = http::get(&gateway.admin_url("/metrics"), None)
        .await?
        .text();
    assert!(metrics.contains("usage_tokens_total"), "{metrics}");
    assert!(!metrics.contains(&name), "no label is a user");
    Ok(())
}

#[tokio::test]
async fn what_one_gateway_records_another_reads() -> Result<()> {
    let kit = Kit::from_env()?;
    let (first, second) = (tempfile::tempdir(), tempfile::tempdir());
    let (first, second) = (first.expect("a directory"), second.expect("a directory"));
    let database = kit.database().await?;
    let config = Config::new(&kit, first.path())?.sharing_store(&database, None)?;
    let replica = config.replica(second.path())?;
    let mut here = Gateway::start(config, first.path()).await?;
    let there = Gateway::start(replica, second.path()).await?;
    let name = secret::mark()?;
    let person = gateway_tests::person::Person::sign_in(&kit, &name, &here).await?;
    let mut socket = person.open().await?;
    assert_eq!(
        socket.turn("[[in=1000]] [[out=100]] shipped").await?.state,
        "final"
    );

    // A second or two later.
    let shown = async {
        loop {
            let shown = usage(second.path(), &["show", &name]).await;
            if shown["total"]["totalTokens"].as_u64() > Some(0) && shown["total"]["runs"] == 1 {
                return shown;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let shown = tokio::time::timeout(Duration::from_secs(30), shown).await;
    let shown = shown.expect("it is shipped");
    assert_eq!(shown["total"]["inputTokens"], 1000, "{shown}");
    let url = there.url("/api/usage/export?format=jsonl");
    let exported = http::get(&url, Some(&person.token)).await?.text();
    assert_eq!(exported.lines().count(), 2, "{exported}");

    // What was recorded last is shipped before the end.
    assert_eq!(
        socket.turn("[[in=500]] [[out=50]] last").await?.state,
        "final"
    );
    here.kill().await?;
    let shown = usage(second.path(), &["show", &name, "--by", "user"]).await;
    assert_eq!(shown["total"]["inputTokens"], 1500, "{shown}");
    assert_eq!(shown["groups"][0]["user"], json!(name), "{shown}");
    Ok(())
}

/// Calls under an idempotency key, with an answer that the provider gives again.
async fn repeat(gateway: &Gateway, key: &str, name: &str, answer: u32) -> Result<()> {
    let message = format!("{name} [[in=1000]] [[out=100]] [[answer={answer}]]");
    let body = json!({
        "model": "test-small", "max_tokens": 100, "messages": [{"role": "user", "content": message}],
    });
    let url = gateway.egress_url("/openai/v1/chat/completions");
    let header = format!("\"{answer}\"");
    let request = Request::post(url)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {key}"))
        .header("idempotency-key", header);
    let answered = http::send(request, body.to_string()).await?;
    answered.expect_status(StatusCode::OK)?;
    Ok(())
}

/// Eleven answers twice each, one after the other and ten at the same time: by keys of the same person at two gateways.
async fn repeat_eleven(
    (here, key_here): (&Gateway, &str),
    (there, key_there): (&Gateway, &str),
    name: &str,
) -> Result<()> {
    repeat(here, key_here, name, 900_000).await?;
    repeat(there, key_there, name, 900_000).await?;
    for answer in 900_001..900_011 {
        let one = repeat(here, key_here, name, answer);
        let other = repeat(there, key_there, name, answer);
        tokio::try_join!(one, other)?;
    }
    Ok(())
}

/// What a person has used of their tokens by the counters that all gateways share.
async fn counted(kit: &Kit, gateway: &Gateway, name: &str) -> Result<Value> {
    let token = kit.issuer().token(name).await?;
    let quota = http::get(&gateway.url("/api/quota"), Some(&token)).await?;
    let quota = quota.json()?;
    let limits = quota.get("limits").and_then(Value::as_array);
    let tokens = |limit: &&Value| limit.get("dimension") == Some(&json!("tokens"));
    let limit = limits.expect("limits").iter().find(tokens);
    Ok(limit
        .expect("a limit")
        .get("used")
        .cloned()
        .unwrap_or_default())
}

#[tokio::test]
async fn d5_53_what_is_repeated_at_another_gateway_is_paid_for_once() -> Result<()> {
    let kit = Kit::from_env()?;
    let (first, second) = (tempfile::tempdir(), tempfile::tempdir());
    let (first, second) = (first.expect("a directory"), second.expect("a directory"));
    let database = kit.database().await?;
    let config = Config::new(&kit, first.path())?.sharing_store(&database, None)?;
    let replica = config.replica(second.path())?;
    let here = Gateway::start(config, first.path()).await?;
    let there = Gateway::start(replica, second.path()).await?;
    let name = secret::mark()?;
    let key = person_with_shared_key(&database, &name).await?;
    repeat_eleven((&here, &key), (&there, &key), &name).await?;

    let token = kit.issuer().token(&name).await?;
    let url = here.url("/api/usage/export?format=jsonl");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let exported = http::get(&url, Some(&token)).await?.text();
        if exported.lines().count() == 22 {
            break;
        }
        assert!(Instant::now() < deadline, "{exported}");
        sleep(Duration::from_millis(100)).await;
    }
    let shown = usage(second.path(), &["show", &name]).await;
    assert_eq!(shown["total"]["totalTokens"], 11 * 1100, "{shown}");
    assert_eq!(shown["total"]["cost"], "0.0495", "{shown}");
    assert_eq!(counted(&kit, &there, &name).await?, 12_100);
    Ok(())
}

#[tokio::test]
async fn d5_53_gateways_that_share_no_more_than_redis_pay_for_an_answer_once() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = || tempfile::tempdir().expect("a directory");
    let (first, second, third) = (dir(), dir(), dir());
    let redis = Redis::start(third.path()).await?;
    let config = Config::new(&kit, first.path())?.sharing_redis(&redis.url())?;
    let replica = config.replica(second.path())?;
    let mut here = Gateway::start(config, first.path()).await?;
    let mut there = Gateway::start(replica, second.path()).await?;
    // Each has a store of its own, so that they have a key at each.
    let name = secret::mark()?;
    here.kill().await?;
    there.kill().await?;
    let key_here = person_with_key(first.path(), &name)?;
    let key_there = person_with_key(second.path(), &name)?;
    here.start_again().await?;
    there.start_again().await?;
    repeat_eleven((&here, &key_here), (&there, &key_there), &name).await?;

    // What was used is in two ledgers.
    let mut records = 0;
    let token = kit.issuer().token(&name).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while records != 22 {
        assert!(Instant::now() < deadline, "{records} records");
        sleep(Duration::from_millis(100)).await;
        records = 0;
        for gateway in [&here, &there] {
            let url = gateway.url("/api/usage/export?format=jsonl");
            let exported = http::get(&url, Some(&token)).await?.text();
            records += exported.lines().count();
        }
    }
    let mut total = 0;
    for dir in [&first, &second] {
        let shown = usage(dir.path(), &["show", &name]).await;
        total += shown["total"]["totalTokens"].as_u64().expect("a number");
    }
    assert_eq!(total, 11 * 1100);
    for gateway in [&here, &there] {
        assert_eq!(counted(&kit, gateway, &name).await?, 12_100);
    }
    Ok(())
}
