//! OpenAI's HTTP API at the public listener, in front of the real OpenClaw.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod ends;
mod stream;
mod walls;

use std::{path::Path, time::Duration};

use ::http::StatusCode;
use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    ledger::{self, Recorded, price, record_of},
    person::Person,
    script, secret,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stream::ask;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

/// A gateway, and people with names that nobody else has.
pub(crate) struct World {
    pub(crate) kit: Kit,
    pub(crate) dir: TempDir,
    pub(crate) gateway: Gateway,
}

// === impl World ===

impl World {
    pub(crate) async fn new(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::new(&kit, dir.path())?;
        change(&mut config);
        let gateway = Gateway::start(config, dir.path()).await?;
        Ok(Self { kit, dir, gateway })
    }

    /// Somebody new, and their name, which all that they say holds.
    pub(crate) async fn somebody(&self) -> Result<(Person, String)> {
        let name = format!("v1-{}", secret::mark()?);
        let person = Person::sign_in(&self.kit, &name, &self.gateway).await?;
        Ok((person, name))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

pub(crate) fn chat(content: &str, rest: Value) -> Value {
    let messages = json!([{"role": "user", "content": content}]);
    with(json!({"model": "openclaw", "messages": messages}), rest)
}

pub(crate) fn response(input: &str, rest: Value) -> Value {
    with(json!({"model": "openclaw/default", "input": input}), rest)
}

fn with(mut body: Value, rest: Value) -> Value {
    if let Value::Object(rest) = rest {
        for (name, value) in rest {
            body[name] = value;
        }
    }
    body
}

/// The records of runs, each with its model calls in the ledger, which say what the provider has written down.
pub(crate) async fn runs(world: &World, name: &str) -> Result<Vec<Recorded>> {
    let calls = world.kit.provider().calls_about(name).await?;
    let records = ledger::settled(world.path(), name, calls.len()).await?;
    let calls = world.kit.provider().calls_about(name).await?;
    for call in &calls {
        let record = record_of(call, &records).expect("each call has a record");
        assert_eq!(record.tokens, call.tokens(), "{call:?}");
        assert_eq!(record.nano_usd, Some(price(call.tokens())), "{call:?}");
    }
    Ok(records
        .into_iter()
        .filter(|record| record.operation == "run")
        .collect())
}

async fn used(person: &Person, dimension: &str) -> Result<Value> {
    let quota = person.get("/api/quota").await?;
    let limits = quota["limits"].as_array().into_iter().flatten();
    let mut limits = limits.filter(|limit| limit["dimension"] == dimension);
    Ok(limits.next().expect("a limit")["used"].clone())
}

/// One run in each way, and their ids.
async fn in_every_way(world: &World, person: &Person, name: &str) -> Result<Vec<String>> {
    let said = |way: &str| {
        format!(
            "{name} {way} [[words=6]] [[chunk_delay=60]] [[in=90]] [[out=12]] [[cache_read=30]]"
        )
    };
    let mut ids = Vec::new();

    let asked = chat(&said("whole"), json!({}));
    let whole = ask(&world.gateway, CHAT, &person.token, &asked).await?;
    let whole = whole.whole().await?;
    assert_eq!(whole["object"], "chat.completion");
    let usage = json!({
        "prompt_tokens": 120, "completion_tokens": 12, "total_tokens": 132, "prompt_tokens_details": {"cached_tokens": 30},
    });
    assert_eq!(whole["usage"], usage);
    ids.push(whole["id"].clone());

    let options =
        json!({"stream": true, "stream_options": {"include_usage": true}, "user": "thread-1"});
    let streamed = chat(&said("streamed"), options);
    let mut answer = ask(&world.gateway, CHAT, &person.token, &streamed).await?;
    assert_eq!(answer.status, StatusCode::OK);
    let parts = answer.rest().await?;
    // 60 ms between the words: they come one by one.
    assert!(parts.len() > 4, "{parts:?}");
    let events = parts.concat();
    assert!(events.trim_end().ends_with("data: [DONE]"), "{events}");
    let mut chunks = events.lines().filter_map(|line| {
        let chunk = line.strip_prefix("data: ")?;
        serde_json::from_str::<Value>(chunk).ok()
    });
    ids.push(chunks.next().expect("a chunk")["id"].clone());
    assert_eq!(chunks.next_back().expect("usage")["usage"], usage);

    let asked = response(&said("response"), json!({}));
    let whole = ask(&world.gateway, RESPONSES, &person.token, &asked).await?;
    let whole = whole.whole().await?;
    assert_eq!(whole["status"], "completed");
    assert_eq!(whole["usage"]["total_tokens"], 132, "{whole}");
    ids.push(whole["id"].clone());

    let next = json!({"stream": true, "previous_response_id": whole["id"]});
    let mut answer = ask(
        &world.gateway,
        RESPONSES,
        &person.token,
        &response(&said("next"), next),
    )
    .await?;
    let events = answer.until("event: response.completed").await?;
    let created = events.lines().find_map(|line| line.strip_prefix("data: "));
    let created: Value = serde_json::from_str(created.expect("an event")).expect("JSON");
    ids.push(created["response"]["id"].clone());
    answer.rest().await?;

    Ok(ids
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

#[tokio::test]
async fn runs_of_two_people_in_every_way_are_in_the_books_as_the_provider_has_them() -> Result<()> {
    let world = World::new(|_| {}).await?;
    let (alice, bob) = (world.somebody().await?, world.somebody().await?);
    let (hers, his) = tokio::try_join!(
        in_every_way(&world, &alice.0, &alice.1),
        in_every_way(&world, &bob.0, &bob.1),
    )?;
    for ((person, name), ids) in [(&alice, hers), (&bob, his)] {
        let runs = runs(&world, name).await?;
        let mut named: Vec<&str> = runs
            .iter()
            .filter_map(|run| run.run_id.as_deref())
            .collect();
        let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        named.sort_unstable();
        ids.sort_unstable();
        assert_eq!(
            named, ids,
            "each run once, by the id that its client was told"
        );
        assert_eq!(ids.len(), 4);
        assert_eq!(used(person, "calls").await?, 4);
        assert_eq!(used(person, "tokens").await?, 4 * 132);
        let usage = person.get("/api/usage?group_by=session").await?;
        let mut groups = usage["groups"].as_array().into_iter().flatten();
        let went_on = groups.any(|group| {
            group["totalTokens"] == 2 * 132 && group.to_string().contains(":openresponses-user:")
        });
        assert!(
            went_on,
            "the second response is in the first one's conversation: {usage}"
        );
        let calls = world.kit.provider().calls_about(name).await?;
        let records = ledger::settled(world.path(), name, calls.len()).await?;
        for call in &calls {
            let record = record_of(call, &records).expect("a record");
            let run = record.run_id.as_deref().unwrap_or_default();
            assert!(ids.contains(&run), "its run is known: {record:?}");
        }
    }
    assert!(!world.gateway.log()?.contains("panicked"));
    Ok(())
}

#[tokio::test]
async fn openais_own_sdk_works_with_it() -> Result<()> {
    let world = World::new(|_| {}).await?;
    let (person, name) = world.somebody().await?;
    let url = world.gateway.url("/v1");
    let environment = [
        ("BASE_URL", url.as_str()),
        ("API_KEY", person.token.as_str()),
        ("MARK", name.as_str()),
    ];
    let log = world.path().join("sdk.log");
    let limit = Duration::from_secs(120);
    let printed = script::run(
        &world.kit.install,
        "sdk-openclaw",
        &environment,
        &log,
        limit,
    )
    .await?;
    let lines = printed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let told = |name: &str| {
        let mut lines = lines.clone().filter(|line| line["call"] == name);
        lines
            .next()
            .unwrap_or_else(|| panic!("{name} in {printed}"))
    };
    assert!(
        !lines.clone().any(|line| line["call"] != "wrong-model"
            && line["call"] != "wrong-member"
            && !line["error"].is_null()),
        "{printed}"
    );
    let agent = told("models")["text"]
        .as_str()
        .and_then(|names| names.rsplit(' ').next().map(str::to_owned));
    let agent = agent.expect("names");
    assert!(agent.starts_with("openclaw/slot-"), "{printed}");
    assert_eq!(
        told("models")["text"],
        format!("openclaw openclaw/default {agent}")
    );
    assert_eq!(told("model")["text"], "openclaw/default");
    for call in [
        "chat",
        "chat-stream",
        "responses",
        "responses-helper",
        "image",
    ] {
        let text = told(call)["text"].as_str().unwrap_or_default().to_owned();
        assert!(!text.is_empty(), "{call} in {printed}");
    }
    // The agent has the conversation: it is told of by no other message.
    assert_eq!(told("remembers")["text"], "true", "{printed}");
    let refused = |name: &str| told(name)["error"].clone();
    assert_eq!(refused("wrong-model")["name"], "NotFoundError", "{printed}");
    assert_eq!(refused("wrong-model")["body"]["code"], "model_not_found");
    assert_eq!(
        refused("wrong-member")["name"],
        "BadRequestError",
        "{printed}"
    );
    assert_eq!(refused("wrong-member")["body"]["param"], "conversation");
    let runs = runs(&world, &name).await?;
    let ids: usize = lines
        .map(|line| line["ids"].as_array().map_or(0, Vec::len))
        .sum();
    assert_eq!(runs.len(), ids, "each run once: {printed}");
    Ok(())
}

#[tokio::test]
async fn a_used_up_quota_is_refused_in_openais_form_and_counts_nothing() -> Result<()> {
    let world = World::new(|config| {
        config.text = config
            .text
            .replace("calls_per_day = 2_000", "calls_per_day = 1");
    })
    .await?;
    let (person, name) = world.somebody().await?;
    // What starts no run is not counted.
    let wrong = chat(&format!("{name} wrong"), json!({"temperature": 9}));
    let wrong = person.post(CHAT, &wrong).await?;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{}", wrong.text());
    assert_eq!(used(&person, "calls").await?, 0);
    let first = ask(&world.gateway, CHAT, &person.token, &chat(&name, json!({}))).await?;
    first.whole().await?;
    for (path, body) in [
        (CHAT, chat(&name, json!({}))),
        (CHAT, chat(&name, json!({"stream": true}))),
        (RESPONSES, response(&name, json!({}))),
    ] {
        let refused = person.post(path, &body).await?;
        assert_eq!(
            refused.status,
            StatusCode::TOO_MANY_REQUESTS,
            "{}",
            refused.text()
        );
        let error = refused.json()?["error"].clone();
        assert_eq!(error["code"], "api_calls_exceeded");
        assert_eq!(error["type"], "rate_limit_error");
        for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
            assert!(refused.header(name).is_some(), "{name}");
        }
        let wait: u64 = refused
            .header("retry-after")
            .and_then(|wait| wait.parse().ok())
            .unwrap_or(0);
        let told = refused.header("x-should-retry");
        assert_eq!(
            told,
            (wait > 60).then_some("false"),
            "an SDK would try again at once"
        );
    }
    assert_eq!(runs(&world, &name).await?.len(), 1);
    assert_eq!(used(&person, "calls").await?, 1);
    Ok(())
}

#[tokio::test]
async fn d2_26_a_body_that_is_too_large_or_no_json_is_refused_before_it_is_read() -> Result<()> {
    let world = World::new(|_| {}).await?;
    let (person, _) = world.somebody().await?;
    let post = || {
        ::http::Request::post(world.gateway.url(CHAT))
            .header("authorization", format!("Bearer {}", person.token))
    };
    let long = " ".repeat((20 << 20) + 1);
    let answer = http::send(post().header("content-type", "application/json"), long).await?;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json()?["error"]["code"], "request_too_large");
    for (kind, encoding, status) in [
        ("text/plain", None, 415),
        ("application/x-www-form-urlencoded", None, 415),
        ("application/json", Some("gzip"), 415),
        ("application/json", None, 400),
    ] {
        let mut request = post().header("content-type", kind);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        let answer = http::send(request, r#"{"model":"openclaw","model":"openclaw"}"#).await?;
        assert_eq!(answer.status, status, "{kind}: {}", answer.text());
    }
    for (method, path) in [("GET", CHAT), ("POST", "/v1/models"), ("GET", RESPONSES)] {
        let request = ::http::Request::builder()
            .method(method)
            .uri(world.gateway.url(path));
        assert_eq!(
            http::send(request, "").await?.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}"
        );
    }
    for path in [
        "/v1/embeddings",
        "/v1/responses/resp_1",
        "/v1",
        "/V1/models",
        "/v1/chat/completions/",
        "//v1/models",
        "/v1/%6dodels",
    ] {
        let answer = person.fetch(path).await?;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    Ok(())
}
