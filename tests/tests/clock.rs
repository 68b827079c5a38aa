//! A gateway whose clock leaps, by libfaketime.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ::http::StatusCode;
use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, person_with_key},
    http,
    kit::Kit,
};
use rusqlite::Connection;
use serde_json::json;
use tokio::time::sleep;

/// Takes 500 tokens.
const HALF: &str = "[[in=400]] [[out=100]]";

/// What is preloaded so that a program's clock can be set.
fn library() -> PathBuf {
    let found = fs::read_dir("/usr/lib").expect("/usr/lib");
    let mut paths = found.filter_map(|entry| {
        let path = entry.ok()?.path().join("faketime/libfaketime.so.1");
        path.exists().then_some(path)
    });
    paths.next().expect("libfaketime is installed")
}

async fn call(gateway: &Gateway, key: &str, name: &str) -> Result<StatusCode> {
    let body = json!({
        "model": "test-small", "max_tokens": 100,
        "messages": [{"role": "user", "content": format!("{name} {HALF}")}],
    });
    let url = gateway.egress_url("/openai/v1/chat/completions");
    Ok(http::post(&url, Some(key), &body).await?.status)
}

/// What time it is for the gateway, by the record of its last call.
async fn last_ended(dir: &Path) -> i64 {
    // Stored once it has ended, in moments.
    sleep(Duration::from_millis(500)).await;
    let ledger = Connection::open(dir.join("gateway.db")).expect("the ledger");
    let latest = "SELECT created_at FROM token_usage_logs ORDER BY seq DESC LIMIT 1";
    ledger
        .query_row(latest, [], |row| row.get(0))
        .expect("a record")
}

#[tokio::test]
async fn d5_50_a_clock_that_leaps_a_day_opens_and_closes_nobody() -> Result<()> {
    const DAY: i64 = 86_400_000;
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let mut config = Config::new(&kit, dir)?;
    let plan = "[plan.default]\ntokens_per_day = 2_000_000\n";
    config.text = config
        .text
        .replacen(plan, "[plan.default]\ntokens_per_day = 1_000\n", 1);
    let clock = dir.join("clock");
    fs::write(&clock, "+0").expect("a file");
    config.env = [
        ("LD_PRELOAD", library()),
        ("FAKETIME_TIMESTAMP_FILE", clock.clone()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value.display().to_string()))
    .into();
    let mut gateway = Gateway::start(config, dir).await?;
    gateway.kill().await?;
    let names = ["spent", "forth", "back", "fresh"];
    let keys = names.map(|name| person_with_key(dir, name).expect("a key"));
    gateway.start_again().await?;

    for _ in 0..2 {
        assert_eq!(call(&gateway, &keys[0], names[0]).await?, StatusCode::OK);
    }
    for n in [1, 2] {
        assert_eq!(call(&gateway, &keys[n], names[n]).await?, StatusCode::OK);
    }
    let refused = call(&gateway, &keys[0], names[0]).await?;
    assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
    let before = last_ended(dir).await;

    for (leap, half_spent, sign) in [("+1d", 1, 1), ("-1d", 2, -1)] {
        fs::write(&clock, leap).expect("a file");
        let opened = call(&gateway, &keys[0], names[0]).await?;
        assert_eq!(opened, StatusCode::TOO_MANY_REQUESTS, "{leap} opens nobody");
        let (key, name) = (&keys[half_spent], names[half_spent]);
        assert_eq!(
            call(&gateway, key, name).await?,
            StatusCode::OK,
            "{leap} closes nobody"
        );
        let ended = last_ended(dir).await;
        assert!(
            (ended - before) * sign > DAY / 2,
            "the gateway's clock has leapt"
        );
        let spent = call(&gateway, key, name).await?;
        assert_eq!(
            spent,
            StatusCode::TOO_MANY_REQUESTS,
            "{leap} forgets nothing"
        );
    }
    assert_eq!(call(&gateway, &keys[3], names[3]).await?, StatusCode::OK);

    // And when it is right again, what was used is still used.
    fs::write(&clock, "+0").expect("a file");
    for n in [0, 1, 2] {
        let refused = call(&gateway, &keys[n], names[n]).await?;
        assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS, "{}", names[n]);
    }
    let text = gateway.log()?;
    assert!(!text.contains("panicked"), "{text}");
    Ok(())
}
