//! The log of a running gateway: for whom each line is, and what is logged, changed while it runs.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{path::Path, time::Duration};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, command_by_socket},
    http,
    kit::Kit,
    person::Person,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// What `gateway log` prints, or why it does not do it.
async fn log(dir: &Path, arguments: &[&str]) -> std::result::Result<String, String> {
    let arguments = [&["log"], arguments].concat();
    let said = command_by_socket(dir, &arguments)
        .await
        .expect("it runs")
        .done();
    let trimmed = |text: String| text.trim().to_owned();
    said.map(trimmed).map_err(trimmed)
}

/// The lines of the log so far, of which each is an object.
fn lines(gateway: &Gateway) -> Result<Vec<Value>> {
    let text = gateway.log()?;
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    Ok(whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect())
}

/// Waits until there is such a line after so many others.
async fn until(gateway: &Gateway, skipped: usize, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(line) = lines(gateway)?.into_iter().skip(skipped).find(&is_it) {
            return Ok(line);
        }
        assert!(Instant::now() < deadline, "{}", gateway.log()?);
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until a filter is in force.
async fn until_filter(dir: &Path, filter: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while log(dir, &[]).await != Ok(filter.to_owned()) {
        assert!(Instant::now() < deadline, "{filter}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn is_debug(line: &Value) -> bool {
    line["level"] == "DEBUG"
}

/// The id of the request that a refused one was, which the client has named so.
async fn refused(gateway: &Gateway, id: &str) -> Result<String> {
    let request = ::http::Request::get(gateway.url("/api/user/info")).header("x-request-id", id);
    let answer = http::send(request, "").await?;
    assert_eq!(answer.status.as_u16(), 401);
    Ok(answer.header("x-request-id").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_log_says_for_whom_and_is_changed_while_the_gateway_runs() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(&kit, dir.path())?;
    config.env.push(("GATEWAY_LOG".to_owned(), String::new()));
    config
        .env
        .push(("GATEWAY_LOG_JSON".to_owned(), "true".to_owned()));
    let plain = config.text.clone();
    config.text = format!("{plain}\n[log]\nfilter = \"info\"\n");
    let mut gateway = Gateway::start(config, dir.path()).await?;

    for name in ["alice", "bob"] {
        let person = Person::sign_in(&kit, name, &gateway).await?;
        let before = lines(&gateway)?.len();
        let socket = person.open().await?;
        let opened = until(&gateway, before, |line| {
            line["fields"]["message"] == "socket open"
        })
        .await?;
        let known = log(dir.path(), &["--user", name]).await.expect("a hash");
        assert_eq!(known.len(), 16, "{known}");
        assert_eq!(opened["user"], known, "{opened}");
        drop(socket);
        let closed = until(&gateway, before, |line| {
            line["fields"]["message"] == "socket closed"
        })
        .await?;
        let request = opened["request"].as_str().unwrap_or_default();
        assert_eq!(request.len(), 32, "{opened}");
        assert!(opened["connection"].is_u64(), "{opened}");
        for of in ["user", "request", "connection"] {
            assert_eq!(opened[of], closed[of], "{opened} {closed}");
        }
    }
    let text = gateway.log()?;
    assert!(!text.contains("alice") && !text.contains("bob"), "{text}");
    assert!(!lines(&gateway)?.iter().any(is_debug), "{text}");

    // A stranger does not choose what they are called.
    let id = "0123456789abcdef0123456789abcdef";
    let own = refused(&gateway, id).await?;
    assert!(own.len() == 32 && own != id, "{own}");

    // By the command line.
    assert_eq!(
        log(dir.path(), &["debug"]).await.as_deref(),
        Ok("debug (before: info)")
    );
    let before = lines(&gateway)?.len();
    let alice = Person::sign_in(&kit, "alice", &gateway).await?;
    drop(alice.open().await?);
    until(&gateway, before, is_debug).await?;
    let wrong = log(dir.path(), &["inf"]).await.expect_err("no level");
    assert!(wrong.contains("`inf` is no level"), "{wrong}");
    assert_eq!(log(dir.path(), &[]).await.as_deref(), Ok("debug"));

    // By the file. One that is wrong changes nothing, and the log says why.
    let mut config = gateway.config().clone();
    config.text = format!("{plain}\n[log]\nfilter = \"warn,gateway=loud\"\n");
    let before = lines(&gateway)?.len();
    gateway.reload(config.clone())?;
    let line = until(&gateway, before, |line| line["level"] == "ERROR").await?;
    let said = line["fields"]["error"].as_str().unwrap_or_default();
    assert!(said.contains("`gateway=loud` is no level"), "{said}");
    assert_eq!(log(dir.path(), &[]).await.as_deref(), Ok("debug"));
    config.text = format!("{plain}\n[log]\nfilter = \"warn\"\n");
    gateway.reload(config.clone())?;
    until_filter(dir.path(), "warn").await;
    let before = lines(&gateway)?.len();
    drop(alice.open().await?);
    refused(&gateway, id).await?;
    let after: Vec<_> = lines(&gateway)?.into_iter().skip(before).collect();
    assert!(
        after
            .iter()
            .all(|line| line["level"] != "INFO" && !is_debug(line)),
        "{after:?}"
    );
    // Without a word on it, and started anew behind a proxy that is trusted.
    config.text = plain.replacen(
        "[server]\n",
        "[server]\ntrusted_proxies = [\"127.0.0.1/32\"]\n",
        1,
    );
    gateway.reload(config)?;
    until_filter(dir.path(), "info").await;
    gateway.restart().await?;
    assert_eq!(refused(&gateway, id).await?, id);
    Ok(())
}
