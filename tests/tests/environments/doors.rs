//! Where people come in, when there is no environment for them: a refusal that says when to come again, and nothing else.

use gateway_tests::{
    error::Result,
    http::Response,
    person::{Person, connect_params},
    ws::Ws,
};
use serde_json::json;

use crate::world::World;

/// That somebody is told at every door to come again.
pub(crate) async fn all_refuse(world: &World, person: &Person, what: &str) -> Result<()> {
    refuses_to_initialize(world, person, what).await?;

    let bearer = format!("Bearer {}", person.token);
    let url = world.gateway.ws_url("/ws");
    let mut ws = Ws::connect(&url, &[("authorization", &bearer)]).await?;
    ws.event("connect.challenge").await?;
    let refused = ws.request("connect", connect_params(&json!({}))).await?;
    let error = &refused["error"];
    assert_eq!(refused["ok"], false, "{what}: {refused}");
    assert_eq!(error["code"], "UNAVAILABLE", "{what}");
    assert_eq!(error["retryable"], true, "{what}");
    assert!(error["retryAfterMs"].as_u64() >= Some(1), "{what}: {error}");
    assert_plain(world, &refused.to_string(), what);
    let (code, reason) = ws.closed().await?;
    assert_eq!(code, 1013, "{what}: {reason}");

    let page = person.fetch("/").await?;
    assert_unavailable(world, &page, what);
    let configuration = person.fetch("/control-ui-config.json").await?;
    assert_unavailable(world, &configuration, what);

    let question = json!({"model": "openclaw", "messages": [{"role": "user", "content": "hello"}]});
    let answer = person.post("/v1/chat/completions", &question).await?;
    assert_unavailable(world, &answer, what);
    Ok(())
}

/// That somebody cannot have an environment made.
pub(crate) async fn refuses_to_initialize(
    world: &World,
    person: &Person,
    what: &str,
) -> Result<()> {
    let answer = person.post("/api/openclaw/initialize", &json!({})).await?;
    assert_unavailable(world, &answer, what);
    assert_eq!(answer.json()?["error"]["code"], "unavailable", "{what}");
    Ok(())
}

fn assert_unavailable(world: &World, answer: &Response, what: &str) {
    let text = answer.text();
    assert_eq!(answer.status, 503, "{what}: {text}");
    let again = answer
        .header("retry-after")
        .and_then(|after| after.parse().ok());
    assert!(again >= Some(1_u32), "{what}: {:?}", answer.headers);
    assert_plain(world, &text, what);
}

/// That an answer says nothing of the host or of what is behind it.
fn assert_plain(world: &World, text: &str, what: &str) {
    let root = world.root.display().to_string();
    let lower = text.to_lowercase();
    for inner in [
        &*root,
        "os error",
        "disk",
        "device",
        "read-only",
        "permission",
        "input/output",
        "users/",
        "slot-",
        "pool-1",
        "127.0.0.1",
        "config",
        "instance",
    ] {
        assert!(!lower.contains(inner), "{what} tells {inner}: {text}");
    }
}
