//! What people have used, by `gateway usage` on the gateway's host: shown, and priced afterwards.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{env, fs, path::Path, time::Duration};

use ::http::StatusCode;
use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, person_with_key},
    http,
    kit::Kit,
    secret,
};
use serde_json::{Value, json};
use tokio::{process::Command, time::sleep};

/// The price of the model that is left out.
const PRICE: &str = "\n[[price]]\nmodel = \"test-large\"\ninput = \"3.00\"\noutput = \"15.00\"\n\
                     cache_read = \"0.30\"\nfrom = \"2025-01-01\"\n";

/// What `gateway usage` answers.
async fn usage(dir: &Path, arguments: &[&str]) -> Value {
    let binary = env::var_os("GATEWAY_BIN").expect("tests/run says which binary");
    let mut command = Command::new(binary);
    command
        .env_clear()
        .arg("usage")
        .args(arguments)
        .args(["--json", "--config"])
        .arg(dir.join("gateway.toml"));
    let done = command.output().await.expect("it runs");
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&done.stdout).expect("JSON")
}

/// Calls a model and waits until that is settled.
async fn call(gateway: &Gateway, key: &str, name: &str, model: &str) -> Result<StatusCode> {
    let message = format!("{name} [[in=1000]] [[out=100]]");
    let body = json!({
        "model": model, "max_tokens": 100, "messages": [{"role": "user", "content": message}],
    });
    let url = gateway.egress_url("/openai/v1/chat/completions");
    let status = http::post(&url, Some(key), &body).await?.status;
    sleep(Duration::from_millis(500)).await;
    Ok(status)
}

async fn start(mut config: Config, dir: &Path, name: &str) -> Result<(Gateway, String)> {
    config.text = config.text.replacen(PRICE, "", 1);
    assert!(
        !config.text.contains("model = \"test-large\""),
        "{}",
        config.text
    );
    config.text += &format!(
        "\n[prices]\nunknown = \"record\"\n\n[usage]\njson_lines = \"{}\"\n",
        dir.join("usage.jsonl").display()
    );
    let mut gateway = Gateway::start(config, dir).await?;
    gateway.kill().await?;
    let key = person_with_key(dir, name)?;
    gateway.start_again().await?;
    Ok((gateway, key))
}

#[tokio::test]
async fn what_had_no_price_is_recorded_and_priced_when_there_is_one() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let name = secret::mark()?;
    let (mut gateway, key) = start(Config::new(&kit, dir)?, dir, &name).await?;
    assert_eq!(
        call(&gateway, &key, &name, "test-small").await?,
        StatusCode::OK
    );
    assert_eq!(
        call(&gateway, &key, &name, "test-large").await?,
        StatusCode::OK
    );

    let before = usage(dir, &["show", &name, "--by", "model"]).await;
    assert_eq!(before["total"]["cost"], "0.0045", "{before}");
    assert_eq!(before["total"]["unpriced"], 1, "{before}");
    assert_eq!(before["total"]["totalTokens"], 2200, "{before}");
    let nothing = usage(dir, &["reprice"]).await;
    assert_eq!(
        (&nothing["records"], &nothing["unpriced"]),
        (&json!(0), &json!(1))
    );

    // A price that is wrong changes nothing, one that is right is in force at once.
    let good = gateway.config().clone();
    let mut wrong = good.clone();
    wrong.text += &PRICE.replace("3.00", "-3.00");
    gateway.reload(wrong)?;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(usage(dir, &["reprice"]).await["records"], 0);
    let mut priced = good;
    priced.text += PRICE;
    gateway.reload(priced)?;
    sleep(Duration::from_millis(500)).await;
    let repriced = usage(dir, &["reprice"]).await;
    let told =
        json!({"records": 1, "cost": "0.0045", "unpriced": 0, "unsettled": 0, "uncounted": 0});
    assert_eq!(repriced, told);
    assert_eq!(usage(dir, &["reprice"]).await["records"], 0, "once");
    assert_eq!(
        call(&gateway, &key, &name, "test-large").await?,
        StatusCode::OK
    );
    let after = usage(dir, &["show", &name]).await;
    assert_eq!(after["total"]["cost"], "0.0135", "{after}");
    assert_eq!(after["total"]["unpriced"], 0, "{after}");

    // Counters know what it cost, and the copy has every record, as it was when it was recorded.
    let token = kit.issuer().token(&name).await?;
    let quota = http::get(&gateway.url("/api/quota"), Some(&token))
        .await?
        .json()?;
    let limits = quota["limits"].as_array().into_iter().flatten();
    let mut cost = limits.filter(|limit| limit["dimension"] == "cost");
    assert_eq!(cost.next().expect("a limit")["used"], "0.0135", "{quota}");
    let lines = fs::read_to_string(dir.join("usage.jsonl")).expect("the copy");
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
    let shown = tokio::time::timeout(Duration::from_secs(20), shown).await;
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
