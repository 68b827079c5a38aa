//! A quota that ends in the middle of a run.

use ::http::StatusCode;
use gateway_tests::{error::Result, person::connect_params, provider::Api};
use serde_json::json;

use crate::{
    balance::balance,
    world::{REFUSED, World},
};

/// The third model call of a run is refused, once, in words that the person reads; so is what OpenClaw's page asks for
/// next. When there is more, it goes on.
async fn ends_in_the_middle(api: Api) -> Result<()> {
    let world = World::start(api, |_, _| {}).await?;
    let (eve, fay) = (world.person("eve").await?, world.person("fay").await?);
    let (name, mut socket) = (&eve.name, eve.person.open().await?);
    let set = async |tokens: u64| {
        let limit = json!({"quotaTokensPerDay": tokens});
        let set = eve.person.post("/api/openclaw/initialize", &limit).await?;
        set.expect_status(StatusCode::OK)
    };
    set(1_000).await?;

    let tool = r#"[[tool=ls {"path":"."}]] [[rounds=3]]"#;
    let message = format!("{name} over {tool} [[in=500]] [[out=50]]");
    let turn = socket.turn(&message).await?;
    let sentence = "Daily token limit exceeded (1100 / 1000 tokens).";
    assert!(turn.text.contains(sentence), "{turn:?}");
    assert_eq!(world.calls(&eve).await?.len(), 2);
    assert_eq!(world.metric(REFUSED).await?, 1, "one attempt");

    let mut params = connect_params(&json!({}));
    params["client"]["id"] = json!("openclaw-control-ui");
    params["client"]["mode"] = json!("webchat");
    let mut page = eve.person.open_with(params).await?;
    let turn = page.turn(&format!("{name} by the page")).await?;
    assert!(turn.text.contains(sentence), "{turn:?}");
    assert_eq!(world.calls(&eve).await?.len(), 2);
    assert_eq!(world.metric(REFUSED).await?, 2, "one attempt");

    // The conversation is as good as before.
    set(2_000_000).await?;
    let turn = socket.turn(&format!("{name} again")).await?;
    assert_eq!(turn.state, "final", "{turn:?}");
    let sum = balance(&world, &eve, &fay, 3).await?;
    assert_eq!(sum.total, 1_100 + 120);
    world.everything_is_somebodys(&[&eve]).await
}

#[tokio::test]
async fn a_quota_that_ends_in_a_run_of_chat_completions_is_read_in_the_conversation() -> Result<()>
{
    ends_in_the_middle(Api::Chat).await
}

#[tokio::test]
async fn a_quota_that_ends_in_a_run_of_anthropics_messages_is_read_in_the_conversation()
-> Result<()> {
    ends_in_the_middle(Api::Messages).await
}
