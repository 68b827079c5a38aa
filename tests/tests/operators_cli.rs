//! What an operator sees and ends of people's sign-ins and keys, and what they are told of plans, prices and alerts, by the
//! commands on the gateway's host.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use ::http::{Method, StatusCode};
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway, command},
    kit::Kit,
    person::Person,
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// How long gateways may take to hear of something.
const HEARD: Duration = Duration::from_secs(5);

/// What a command prints when it does what it says.
async fn say(dir: &Path, arguments: &[&str]) -> String {
    let said = command(dir, arguments).await.expect("it runs");
    said.done().expect("it does it")
}

/// The same for programs.
async fn answer(dir: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let said = command(dir, &arguments).await.expect("it runs");
    said.json().expect("an answer")
}

/// What it says when it does not.
async fn refusal(dir: &Path, arguments: &[&str]) -> String {
    let said = command(dir, arguments).await.expect("it runs");
    said.done().expect_err("it does not do it")
}

fn ids(answer: &Value, of: &str) -> Vec<String> {
    let rows = answer[of].as_array().into_iter().flatten();
    let ids = rows.map(|row| row["id"].as_str().expect("an id").to_owned());
    ids.collect()
}

async fn status(browser: &mut Browser, gateway: &Gateway) -> Result<StatusCode> {
    let info = gateway.url("/api/user/info");
    let answer = browser.fetch(Method::GET, &info, "").await?;
    Ok(answer.status)
}

/// Who has done what to whom, the latest first, with what was before.
async fn acts(dir: &Path, user: &str) -> Vec<(String, Value)> {
    let audit = answer(dir, &["audit", "list", "--user", user]).await;
    let rows = audit["audit"].as_array().into_iter().flatten();
    let done = rows.filter(|row| row["result"] == "done");
    let acts = done.map(|row| {
        let action = row["action"].as_str().expect("an action").to_owned();
        (action, row["before"].clone())
    });
    acts.collect()
}

#[tokio::test]
async fn one_session_ends_or_all_and_a_key_alone() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dir, config) = (dir.path(), Config::new(&kit, dir.path())?);
    let gateway = Gateway::start(config, dir).await?;
    let (ann, ben) = ("operated-ann", "operated-ben");
    let (mut laptop, mut phone, mut other) = (Browser::new(), Browser::new(), Browser::new());
    laptop.sign_in_at(&gateway, ann).await?;
    let of_laptop = ids(&answer(dir, &["sessions", "list", ann]).await, "sessions");
    phone.sign_in_at(&gateway, ann).await?;
    other.sign_in_at(&gateway, ben).await?;
    let listed = answer(dir, &["sessions", "list", ann]).await;
    assert_eq!(ids(&listed, "sessions").len(), 2, "{listed}");
    let shown = say(dir, &["sessions", "list", ann]).await;
    assert!(shown.contains(&of_laptop[0]), "{shown}");

    // Of somebody else there is no such session, and it goes on.
    let error = refusal(dir, &["sessions", "end", ben, &of_laptop[0]]).await;
    assert!(error.contains("they have no such session"), "{error}");
    assert_eq!(status(&mut laptop, &gateway).await?, StatusCode::OK);
    say(dir, &["sessions", "end", ann, &of_laptop[0]]).await;
    assert_eq!(
        status(&mut laptop, &gateway).await?,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(status(&mut phone, &gateway).await?, StatusCode::OK);

    let keys = gateway.url("/api/keys");
    let mut made = Vec::new();
    for name in ["kept", "leaked"] {
        let body = json!({ "name": name }).to_string();
        let key = phone.fetch(Method::POST, &keys, &body).await?;
        made.push(key.expect_status(StatusCode::CREATED)?.json()?);
    }
    let token = |key: &Value| key["token"].as_str().expect("a token").to_owned();
    let (kept, leaked) = (&made[0], &made[1]);
    let by_kept = Person::with_token(token(kept), &gateway);
    let by_leaked = Person::with_token(token(leaked), &gateway);
    let mut socket = by_leaked.open().await?;
    let listed = say(dir, &["keys", "list", ann]).await;
    assert!(
        listed.contains("kept") && listed.contains("leaked"),
        "{listed}"
    );
    for key in &made {
        assert!(!listed.contains(&token(key)), "nobody is told a token");
    }
    let id = leaked["id"].as_str().expect("an id");
    let error = refusal(dir, &["keys", "revoke", ben, id]).await;
    assert!(error.contains("they have no such key"), "{error}");
    say(dir, &["keys", "revoke", ann, id]).await;
    assert_eq!(socket.ws.closed().await?.0, 4401);
    let refused = by_leaked.fetch("/api/quota").await?;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    by_kept.get("/api/quota").await?;

    say(dir, &["sessions", "end", ann, "--all"]).await;
    assert_eq!(
        status(&mut phone, &gateway).await?,
        StatusCode::UNAUTHORIZED
    );
    let refused = by_kept.fetch("/api/quota").await?;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&mut other, &gateway).await?, StatusCode::OK);
    let shown = say(dir, &["sessions", "list", ann]).await;
    assert_eq!(shown, "signed in nowhere\n");

    let acts = acts(dir, ann).await;
    let names: Vec<_> = acts.iter().map(|(action, _)| &**action).collect();
    assert_eq!(names, ["sessions.end", "key.revoke", "session.end"]);
    assert_eq!(acts[1].1["name"], "leaked", "what it was is kept");
    assert_eq!(acts[2].1["id"], *of_laptop[0]);
    Ok(())
}

#[tokio::test]
async fn who_is_disabled_is_out_until_they_are_enabled() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dir, config) = (dir.path(), Config::new(&kit, dir.path())?);
    let gateway = Gateway::start(config, dir).await?;
    let who = "operated-cyn";
    let mut browser = Browser::new();
    browser.sign_in_at(&gateway, who).await?;
    say(dir, &["users", "disable", who]).await;
    assert_eq!(
        status(&mut browser, &gateway).await?,
        StatusCode::UNAUTHORIZED
    );
    // That they are, gateways hear within a second.
    let kept_out = timeout(HEARD, async {
        while browser.sign_in_at(&gateway, who).await.is_ok() {}
    });
    kept_out.await.expect("they are kept out");
    assert_eq!(
        status(&mut browser, &gateway).await?,
        StatusCode::UNAUTHORIZED
    );
    let listed = say(dir, &["users", "list"]).await;
    assert!(listed.contains("disabled"), "{listed}");
    say(dir, &["users", "enable", who]).await;
    let let_in = timeout(HEARD, async {
        while browser.sign_in_at(&gateway, who).await.is_err() {}
    });
    let_in.await.expect("they are let in");
    assert_eq!(status(&mut browser, &gateway).await?, StatusCode::OK);

    let error = refusal(dir, &["users", "link", who, "corp", "somebody"]).await;
    assert!(error.contains("not the primary one"), "{error}");
    let acts = acts(dir, who).await;
    let names: Vec<_> = acts.iter().map(|(action, _)| &**action).collect();
    assert_eq!(names, ["user.enable", "user.disable"]);
    Ok(())
}

#[tokio::test]
async fn plans_prices_and_alerts_are_as_they_are() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(&kit, dir.path())?;
    config.text += "\n[plan.small]\ntokens_per_day = 1_000\n\n[[price]]\nmodel = \"later\"\ninput = \"1.00\"\n\
        output = \"2.50\"\nfrom = \"2030-01-01\"\n";
    let (dir, gateway) = (dir.path(), Gateway::start(config, dir.path()).await?);
    let plans = say(dir, &["quotas", "plans"]).await;
    for line in ["small    tokens/day  1000", "days and months in UTC"] {
        assert!(plans.contains(line), "{plans}");
    }
    let prices = answer(dir, &["prices", "list", "--model", "later"]).await;
    let price = &prices["prices"][0];
    assert_eq!(price["rate"]["output"], "2.50", "{prices}");
    assert_eq!(price["from"], "2030-01-01T00:00:00Z");
    let error = refusal(dir, &["prices", "list", "--model", "none"]).await;
    assert!(error.contains("--model none: has no price"), "{error}");

    let who = "operated-dan";
    let person = Person::sign_in(&kit, who, &gateway).await?;
    let mut socket = person.open().await?;
    say(dir, &["quotas", "set", who, "plan=small"]).await;
    assert_eq!(say(dir, &["alerts", "list"]).await, "no alerts\n");
    socket.turn("[[in=850]] [[out=10]] nearly all").await?;
    person
        .wait_for("/api/alerts", |alerts| !alerts["alerts"][0].is_null())
        .await?;
    let records = say(dir, &["usage", "records", who]).await;
    assert!(
        records.contains("model_call") && records.contains("860"),
        "{records}"
    );
    let one = ["usage", "records", who, "--limit", "1"];
    let first = answer(dir, &one).await;
    let next = first["next"].as_str().expect("there is one more");
    let second = answer(dir, &[&one[..], &["--before", next]].concat()).await;
    assert_ne!(first["records"][0]["id"], second["records"][0]["id"]);
    let file = dir.join("usage.jsonl");
    let to = file.to_str().expect("a path");
    let export = ["usage", "export", who, "--format", "jsonl", "--output", to];
    let said = say(dir, &export).await;
    let text = fs::read_to_string(&file).expect("it is written");
    assert_eq!(said, format!("{} bytes written\n", text.len()));
    assert_eq!(text.lines().count(), 2, "a run and its call: {text}");
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = refusal(dir, &export).await;
    assert!(error.contains("--output"), "{error}");
    let counters = say(dir, &["counters", "list"]).await;
    assert_eq!(counters, "in memory; they say what the ledgers say\n");
    let forgotten = say(dir, &["counters", "forget", "none"]).await;
    assert_eq!(forgotten, "forgotten\n");

    let triggered = ["alerts", "list", "--user", who, "--state", "triggered"];
    let alert = ids(&answer(dir, &triggered).await, "alerts");
    assert_eq!(alert.len(), 1);
    let shown = say(dir, &["alerts", "acknowledge", &alert[0]]).await;
    assert!(shown.contains("acknowledged"), "{shown}");
    let note = ["alerts", "resolve", &alert[0], "--note", "it is a test"];
    let shown = say(dir, &note).await;
    assert!(shown.contains("resolved by "), "{shown}");
    assert!(shown.contains("it is a test"), "{shown}");
    let error = refusal(dir, &["alerts", "acknowledge", &alert[0]]).await;
    assert!(error.contains("resolved already"), "{error}");
    let error = refusal(dir, &["alerts", "resolve", "none"]).await;
    assert!(error.contains("no such alert"), "{error}");
    assert_eq!(say(dir, &triggered).await, "no alerts\n");
    Ok(())
}
