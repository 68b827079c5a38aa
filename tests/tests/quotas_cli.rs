//! Quotas as an operator sets them, by `gateway quotas` on the gateway's host.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use ::http::{Method, StatusCode};
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway, Said, command},
    kit::Kit,
    person::{Person, Socket, send_params},
    stopwatch::Stopwatch,
};
use serde_json::{Value, json};

/// What `gateway quotas` prints when it does what it says, beside the gateway whose configuration is in `dir`.
async fn say(dir: &Path, arguments: &[&str]) -> String {
    quotas(dir, arguments).await.done().expect("it does it")
}

async fn quotas(dir: &Path, arguments: &[&str]) -> Said {
    let arguments = [&["quotas"], arguments].concat();
    command(dir, &arguments).await.expect("it runs")
}

async fn refused(socket: &mut Socket) -> Result<Value> {
    let answer = socket.ws.request("chat.send", send_params("no")?).await?;
    Ok(answer.get("error").cloned().unwrap_or_default())
}

/// Waits until that many calls are used, and nothing is held.
async fn used(person: &Person, calls: u64) -> Result<()> {
    let settled = person.wait_for("/api/quota", |quota| {
        let limits = quota["limits"].as_array().into_iter().flatten();
        let mut of_day =
            limits.filter(|limit| limit["dimension"] == "calls" && limit["window"] == "day");
        of_day.all(|limit| limit["used"] == calls && limit["reserved"] == 0)
    });
    settled.await.map(drop)
}

fn mode(socket: &Path) -> u32 {
    let file = fs::symlink_metadata(socket).expect("the socket is there");
    file.permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_an_operator_sets_is_in_force_at_once() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dir, config) = (dir.path(), Config::new(&kit, dir.path())?);
    let mut gateway = Gateway::start(config, dir).await?;
    let socket_file = dir.join("gateway.sock");
    assert_eq!(mode(&socket_file), 0o600);
    let vic = Person::sign_in(&kit, "quota-vic", &gateway).await?;
    let mut socket = vic.open().await?;

    say(dir, &["set", "quota-vic", "calls/day=0"]).await;
    let error = refused(&mut socket).await?;
    assert_eq!(error["code"], "API_CALLS_EXCEEDED", "{error}");
    let listed = say(dir, &["list"]).await;
    assert!(listed.contains("calls/day=0"), "{listed}");
    let explained = say(dir, &["explain", "quota-vic"]).await;
    let sentence = error["message"].as_str().expect("a sentence");
    assert!(explained.contains(sentence), "{explained}");

    // A grant unblocks within a second, and so does what was used and is given once more.
    for (calls, more) in [
        (0, &["grant", "quota-vic", "calls/day=1", "--for", "7d"][..]),
        (1, &["reset", "quota-vic", "--used"]),
    ] {
        used(&vic, calls).await?;
        say(dir, more).await;
        let begun = Stopwatch::start();
        let run = socket.start("one more").await?;
        assert!(begun.elapsed() < Duration::from_secs(1), "{more:?}");
        socket.end_of(&run).await?;
        let error = refused(&mut socket).await?;
        assert_eq!(error["code"], "API_CALLS_EXCEEDED", "{error}");
    }
    used(&vic, 2).await?;
    say(dir, &["reset", "quota-vic"]).await;
    socket.turn("as everybody").await?;
    let listed = say(dir, &["list"]).await;
    assert!(!listed.contains("quota-vic"), "{listed}");

    // What is wrong is said before anything is sent, or by the gateway.
    for (change, code, said) in [
        ("calls/day=-1", 2, "a whole number from 0"),
        ("plan=none", 1, "plan: must be one"),
    ] {
        let wrong = quotas(dir, &["set", "quota-vic", change]).await;
        assert_eq!(wrong.status.code(), Some(code), "{wrong:?}");
        assert!(wrong.error.contains(said), "{wrong:?}");
    }

    // After a crash the socket is another one, and what was set is there.
    say(dir, &["set", "quota-vic", "tokens/day=5"]).await;
    drop(socket);
    gateway.kill9().await?;
    let nobody = quotas(dir, &["list"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(nobody.error.contains("no gateway listens at"), "{nobody:?}");
    gateway.start_again().await?;
    assert_eq!(mode(&socket_file), 0o600);
    let listed = say(dir, &["list"]).await;
    assert!(listed.contains("tokens/day=5"), "{listed}");
    gateway.kill().await?;
    assert!(!socket_file.exists(), "stopped in order");
    Ok(())
}

#[tokio::test]
async fn administrators_list_explain_and_reset_and_nobody_else_does() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    for user in ["quota-1", "quota-2", "quota-3"] {
        say(dir.path(), &["set", user, "calls/day=0"]).await;
    }
    let list = gateway.url("/api/admin/quotas?limit=2");
    let explain = gateway.url("/api/admin/users/quota-1/quota/explain");
    let reset = gateway.url("/api/admin/users/quota-1/quota/reset");
    let asked = [
        (Method::GET, &list),
        (Method::GET, &explain),
        (Method::POST, &reset),
    ];
    let mut nobody = Browser::new();
    nobody.sign_in_at(&gateway, "quota-tim").await?;
    for (method, url) in asked {
        let answer = nobody.fetch(method, url, "").await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{url}");
    }

    let mut admin = Browser::new();
    admin.sign_in_at(&gateway, "admin").await?;
    let users = |page: &Value| {
        let quotas = page["quotas"].as_array().into_iter().flatten();
        let users = quotas.map(|quota| quota["user"].clone());
        Value::Array(users.collect())
    };
    let page = admin.fetch(Method::GET, &list, "").await?.json()?;
    assert_eq!(users(&page), json!(["quota-1", "quota-2"]));
    assert_eq!(page["next"], "quota-2");
    let rest = format!("{list}&after=quota-2");
    let page = admin.fetch(Method::GET, &rest, "").await?.json()?;
    assert_eq!(
        (users(&page), &page["next"]),
        (json!(["quota-3"]), &Value::Null)
    );

    let explained = admin.fetch(Method::GET, &explain, "").await?.json()?;
    assert_eq!(explained["run"]["allowed"], false);
    let answer = admin.fetch(Method::POST, &reset, "").await?;
    let answer = answer.expect_status(StatusCode::OK)?.json()?;
    assert_eq!(
        (&answer["version"], &answer["limits"]),
        (&json!(2), &json!([]))
    );
    let wrong = admin.fetch(Method::POST, &reset, r#"{"all":true}"#).await?;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    for limit in ["0", "201", "x"] {
        let url = gateway.url(&format!("/api/admin/quotas?limit={limit}"));
        let wrong = admin.fetch(Method::GET, &url, "").await?;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{limit}");
    }
    Ok(())
}
