//! A key of one's own at a provider.

use std::path::PathBuf;

use ::http::{Request, StatusCode};
use gateway_tests::{canary::files_with, error::Result, http, provider::Api};
use serde_json::json;

use crate::{
    balance::balance,
    world::{Somebody, World},
};

const ROUTE: &str = "/api/openclaw/provider-key";

/// Says and has answered something, and answers the key that the provider was called with.
async fn key_of_next(world: &World, somebody: &Somebody, n: u64) -> Result<String> {
    let mut socket = somebody.person.open().await?;
    let message = format!("{} turn {n} [[in=70]] [[out=3]]", somebody.name);
    let turn = socket.turn(&message).await?;
    assert_eq!(turn.state, "final", "{turn:?}");
    let calls = world.calls(somebody).await?;
    Ok(calls.last().expect("a call").key.clone())
}

/// One that is a provider's is used for its owner alone until it is taken away, and is nowhere to be read.
async fn is_its_owners(api: Api, provider: &str) -> Result<()> {
    let world = World::start(api, |config, dir| {
        let master = dir.join("master");
        std::fs::write(&master, "5a".repeat(32)).expect("a file");
        let line = format!("[workspace]\nmaster_key_file = \"{}\"", master.display());
        config.text = config.text.replacen("[workspace]", &line, 1);
    })
    .await?;
    let (gil, hal) = (world.person("gil").await?, world.person("hal").await?);
    let (own, all) = (&world.kit.user_key, &world.kit.provider_key);
    let change = async |request: ::http::request::Builder, body: String| {
        let bearer = format!("Bearer {}", gil.person.token);
        let request = request.header("authorization", bearer);
        http::send(request.header("content-type", "application/json"), body).await
    };
    let route = world.gateway.url(ROUTE);

    assert_eq!(&key_of_next(&world, &gil, 1).await?, all);
    let put = json!({"provider": provider, "key": own}).to_string();
    let put = change(Request::put(&route), put).await?;
    assert_eq!(put.status, StatusCode::NO_CONTENT, "{}", put.text());
    assert_eq!(&key_of_next(&world, &gil, 2).await?, own);
    assert_eq!(&key_of_next(&world, &hal, 1).await?, all, "of nobody else");

    // While it is kept.
    let shown = gil.person.get("/api/openclaw/status").await?.to_string();
    assert!(!shown.contains(own), "{shown}");
    let metrics = http::get(&world.gateway.admin_url("/metrics"), None).await?;
    let log = world.gateway.log()?;
    let mut places = vec![world.kit.openclaw_dir.clone()];
    let below = ["users", "gateway.db", "gateway.db-wal", "gateway.log"];
    places.extend(below.map(|name| world.dir().join(name)));
    for key in [own, all] {
        assert_eq!(files_with(&places, key)?, Vec::<PathBuf>::new());
        assert!(!metrics.text().contains(key) && !log.contains(key));
    }

    let taken = format!("{route}?provider={provider}");
    let deleted = change(Request::delete(&taken), String::new()).await?;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.text());
    assert_eq!(&key_of_next(&world, &gil, 3).await?, all);
    let again = change(Request::delete(&taken), String::new()).await?;
    assert_eq!(again.status, StatusCode::NOT_FOUND);

    // Whoever's key it is, it counts.
    assert_eq!(balance(&world, &gil, &hal, 3).await?.total, 3 * 73);
    assert_eq!(balance(&world, &hal, &gil, 1).await?.total, 73);
    Ok(())
}

#[tokio::test]
async fn d8_69_70_a_key_of_ones_own_for_chat_completions_is_its_owners_and_never_shown()
-> Result<()> {
    is_its_owners(Api::Chat, "openai").await
}

#[tokio::test]
async fn d8_69_70_a_key_of_ones_own_for_anthropics_messages_is_its_owners_and_never_shown()
-> Result<()> {
    is_its_owners(Api::Messages, "anthropic").await
}
