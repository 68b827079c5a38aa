//! Who comes to a cell that does not run is told so in their own way, and served when it does.

use std::time::Duration;

use ::http::{Method, Request, StatusCode};
use gateway_tests::{
    chromium::run_script,
    error::{Error, Result},
    http,
    person::Person,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{PATIENCE, World};

/// A browser that opens the page ends in OpenClaw's, without anybody doing anything.
pub(crate) async fn a_browser(world: &World, name: &str) -> Result<()> {
    let (url, user) = (world.gateway.url(""), world.user(name));
    let environment = [("GATEWAY_URL", &*url), ("ALICE", &*user)];
    let dir = world.dir.path();
    run_script(
        &world.kit.install,
        "browser-waits",
        &environment,
        dir,
        PATIENCE,
    )
    .await
}

/// A program that asks for a run waits for the cell, and gets its answer.
pub(crate) async fn a_program(world: &World, name: &str) -> Result<Person> {
    let person = world.person(name).await?;
    let page = fetch(world, &person, "/", "text/html,*/*;q=0.8").await?;
    assert_eq!(page.status.as_u16(), 503, "{}", page.text());
    assert!(page.text().contains("is starting"), "{}", page.text());
    let again = (page.header("retry-after"), page.header("refresh"));
    assert_eq!(again, (Some("2"), Some("2")));
    for path in ["/", "/control-ui-config.json", "/assets/index.js"] {
        let script = fetch(world, &person, path, "*/*").await?;
        assert_eq!(script.status.as_u16(), 503, "{path}: {}", script.text());
        assert_eq!(script.json()?["error"]["code"], "starting", "{path}");
        assert!(script.header("retry-after").is_some() && script.header("refresh").is_none());
    }
    let begun = Instant::now();
    let answer = ask(&person, "begin").await?;
    println!(
        "an answer of a cell that starts after {:?}",
        begun.elapsed()
    );
    assert!(answer.to_string().contains("begin"), "{answer}");
    // It runs now.
    let begun = Instant::now();
    let answer = ask(&person, "go on").await?;
    println!("of one that runs after {:?}", begun.elapsed());
    assert!(answer.to_string().contains("go on"), "{answer}");
    let page = fetch(world, &person, "/", "text/html").await?;
    assert!(page.status.is_success(), "{}", page.text());
    Ok(person)
}

/// What the agent of a person answers over HTTP, who comes again as OpenAI's clients do.
pub(crate) async fn ask(person: &Person, message: &str) -> Result<Value> {
    let asked = json!({"model": "openclaw", "messages": [{"role": "user", "content": message}]});
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = match person.post("/v1/chat/completions", &asked).await {
            // They would wait for longer.
            Err(Error::Late(..)) if Instant::now() < deadline => continue,
            answer => answer?,
        };
        let wait = answer.header("retry-after");
        let wait = wait.and_then(|wait| wait.parse().ok());
        let (503, Some(wait)) = (answer.status.as_u16(), wait) else {
            return answer.expect_status(StatusCode::OK)?.json();
        };
        if Instant::now() > deadline {
            return Err(Error::Late(PATIENCE, answer.text()));
        }
        sleep(Duration::from_secs(wait)).await;
    }
}

async fn fetch(world: &World, person: &Person, path: &str, accept: &str) -> Result<http::Response> {
    let request = Request::builder().method(Method::GET);
    let request = request
        .uri(world.gateway.url(path))
        .header("accept", accept);
    let bearer = format!("Bearer {}", person.token);
    http::send(request.header("authorization", bearer), "").await
}
