//! How an answer ends before it is over.

use std::time::Duration;

use ::http::{Method, StatusCode};
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    person::Person,
    port::free_address,
    secret,
    stopwatch::Stopwatch,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{CHAT, RESPONSES, World, chat, response, runs, stream::ask, walls::key};

/// Ten seconds of words.
const LONG: &str = "[[words=400]] [[chunk_delay=25]] [[in=50]] [[out=400]]";

#[tokio::test]
async fn d6_59_a_run_whose_client_leaves_is_ended_and_counted_once() -> Result<()> {
    let world = World::new(|_| {}).await?;
    let (person, name) = world.somebody().await?;
    let streamed = json!({"stream": true});
    for (path, body, words) in [
        (
            CHAT,
            chat(&format!("{name} one {LONG}"), streamed.clone()),
            "\"content\":\"",
        ),
        (
            RESPONSES,
            response(&format!("{name} two {LONG}"), streamed),
            "output_text.delta",
        ),
    ] {
        let mut answer = ask(&world.gateway, path, &person.token, &body).await?;
        assert_eq!(answer.status, StatusCode::OK);
        answer.until(words).await?;
        drop(answer);
    }
    // One that says nothing until it is over.
    let body = chat(&format!("{name} three {LONG}"), json!({}));
    let provider = world.kit.provider();
    let asked = async {
        while provider.calls_about(&name).await?.len() < 3 {
            sleep(Duration::from_millis(100)).await;
        }
        Ok::<_, gateway_tests::error::Error>(())
    };
    tokio::select! {
        asked = asked => asked?,
        answer = ask(&world.gateway, CHAT, &person.token, &body) => {
            assert!(answer.is_err(), "it does not answer before its end");
        }
    }
    let runs = runs(&world, &name).await?;
    assert_eq!(runs.len(), 3, "{runs:?}");
    Ok(())
}

#[tokio::test]
async fn d3_36_an_answer_ends_within_a_second_of_the_key_that_asked_for_it() -> Result<()> {
    let world = World::new(|_| {}).await?;
    let (_, name) = world.somebody().await?;
    let mut browser = Browser::new();
    browser.sign_in_at(&world.gateway, &name).await?;
    let wanted = json!({"name": "one", "scopes": ["chat"], "expiresInDays": 1});
    let (id, token) = key(&mut browser, &world, &wanted).await?;
    for (path, body, words) in [(
        CHAT,
        chat(&format!("{name} {LONG}"), json!({"stream": true})),
        "\"content\":\"",
    )] {
        let mut answer = ask(&world.gateway, path, &token, &body).await?;
        answer.until(words).await?;
        let keys = world.gateway.url(&format!("/api/keys/{id}"));
        let revoked = browser.fetch(Method::DELETE, &keys, "").await?;
        assert!(revoked.status.is_success(), "{}", revoked.text());
        let begun = Stopwatch::start();
        let rest = answer.rest().await;
        assert!(rest.is_err(), "it breaks off: {rest:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        let mut again = ask(&world.gateway, path, &token, &body).await?;
        assert_eq!(again.status, StatusCode::UNAUTHORIZED);
        again.rest().await?;
    }
    assert_eq!(runs(&world, &name).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_instance_that_is_down_is_said_to_be_at_once() -> Result<()> {
    let nobody = free_address()?;
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(&kit, dir.path())?;
    config.text = config
        .text
        .replace(&kit.openclaw, &format!("http://{nobody}"));
    // It is alive, and not ready.
    let gateway = Gateway::spawn(config, dir.path())?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while http::get(&gateway.url("/livez"), None).await.is_err() {
        assert!(Instant::now() < deadline, "it listens");
        sleep(Duration::from_millis(100)).await;
    }
    let name = format!("v1-{}", secret::mark()?);
    let person = Person::sign_in(&kit, &name, &gateway).await?;
    for (path, body) in [
        (CHAT, chat(&name, json!({"stream": true}))),
        (RESPONSES, response(&name, json!({}))),
    ] {
        let begun = Stopwatch::start();
        let answer = person.post(path, &body).await?;
        assert_eq!(
            answer.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("retry-after"), Some("2"));
        assert_eq!(answer.json()?["error"]["type"], "api_error");
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
    }
    Ok(())
}
