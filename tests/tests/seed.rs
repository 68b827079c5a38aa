//! What the first version of this gateway was tested for, on the real OpenClaw: people's messages, workspaces, usage and
//! quotas are their own.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::fs;

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    person::{Person, send_params},
    secret,
};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Two {
    dir: TempDir,
    _gateway: Gateway,
    alice: Person,
    bob: Person,
    names: [String; 2],
}

async fn two() -> Result<Two> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    // Whom no other test knows, since the instance is shared.
    let mark = secret::mark()?;
    let names = [format!("alice-{mark}"), format!("bob-{mark}")];
    let [alice, bob] = &names;
    let alice = Person::sign_in(&kit, alice, &gateway).await?;
    let bob = Person::sign_in(&kit, bob, &gateway).await?;
    Ok(Two {
        dir,
        _gateway: gateway,
        alice,
        bob,
        names,
    })
}

#[tokio::test]
async fn messages_are_isolated() -> Result<()> {
    let two = two().await?;
    let (mut alice, mut bob) = (two.alice.open().await?, two.bob.open().await?);
    assert_eq!(alice.turn("the word is heliotrope").await?.state, "final");
    assert_eq!(bob.turn("the word is vermilion").await?.state, "final");
    for (socket, own, others) in [
        (&mut alice, "heliotrope", "vermilion"),
        (&mut bob, "vermilion", "heliotrope"),
    ] {
        let history = socket.ws.call("chat.history", json!({})).await?.to_string();
        assert!(
            history.contains(own) && !history.contains(others),
            "{history}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn workspaces_are_isolated() -> Result<()> {
    let two = two().await?;
    for (person, content) in [(&two.alice, "of alice"), (&two.bob, "of bob")] {
        let write = json!({"path": "note.txt", "content": content});
        let mut socket = person.open().await?;
        let turn = socket
            .turn(&format!("note this [[tool=write {write}]]"))
            .await?;
        assert_eq!(turn.state, "final", "{}", turn.text);
    }
    for (name, content) in two.names.iter().zip(["of alice", "of bob"]) {
        let note = two
            .dir
            .path()
            .join(format!("users/{name}/workspace/note.txt"));
        assert_eq!(fs::read_to_string(note).unwrap_or_default(), content);
    }
    Ok(())
}

#[tokio::test]
async fn usage_is_counted_for_each_user() -> Result<()> {
    let two = two().await?;
    for (person, input, output) in [(&two.alice, 1_000, 50), (&two.bob, 300, 7)] {
        let mut socket = person.open().await?;
        let turn = socket
            .turn(&format!("count [[in={input}]] [[out={output}]]"))
            .await?;
        assert_eq!(turn.state, "final", "{}", turn.text);
        let settled = |usage: &Value| usage["total"]["totalTokens"] == input + output;
        let usage = person.wait_for("/api/usage", settled).await?;
        assert_eq!(usage["total"]["runs"], 1, "{usage}");
    }
    Ok(())
}

#[tokio::test]
async fn the_daily_quota_holds_for_each_user() -> Result<()> {
    let two = two().await?;
    let set = json!({"quotaTokensPerDay": 500});
    two.alice.post("/api/openclaw/initialize", &set).await?;
    let (mut alice, mut bob) = (two.alice.open().await?, two.bob.open().await?);
    let turn = alice.turn("all of it [[in=480]] [[out=20]]").await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    let used_up = |quota: &Value| quota["limits"].to_string().contains(r#""used":500"#);
    two.alice.wait_for("/api/quota", used_up).await?;
    let refused = alice.ws.request("chat.send", send_params("more")?).await?;
    assert_eq!(
        refused["error"]["code"], "DAILY_TOKENS_EXCEEDED",
        "{refused}"
    );
    assert_eq!(bob.turn("he has his own").await?.state, "final");
    Ok(())
}

#[tokio::test]
async fn a_sandbox_that_there_is_not_is_not_promised() -> Result<()> {
    let two = two().await?;
    let sandbox = json!({"enableSandbox": true});
    let answer = two.alice.post("/api/openclaw/initialize", &sandbox).await?;
    assert_eq!(answer.status, 409, "{}", answer.text());
    let answer = two
        .alice
        .post("/api/openclaw/initialize", &json!({}))
        .await?;
    assert_eq!(answer.json()?["hasSandbox"], false);
    Ok(())
}
