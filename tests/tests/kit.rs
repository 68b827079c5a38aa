//! The kit itself: what every other test relies on.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway_tests::{
    error::{Error, Result},
    http,
    issuer::AUDIENCE,
    kit::Kit,
    openclaw,
    postgres::Postgres,
    provider::{ModelCall, Provider},
    redis::Redis,
    ws::Ws,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const KEY: &str = "sk-a";

// === the model provider ===

async fn ask(provider: &Provider, key: &str, message: &str, rest: Value) -> Result<http::Response> {
    let mut body =
        json!({"model": "test-small", "messages": [{"role": "user", "content": message}]});
    if let (Some(body), Value::Object(rest)) = (body.as_object_mut(), rest) {
        body.extend(rest);
    }
    http::post(
        &format!("{}/v1/chat/completions", provider.url()),
        Some(key),
        &body,
    )
    .await
}

/// The JSON of every event of a stream that ends as it should.
fn events(body: &str) -> Vec<Value> {
    let mut events: Vec<_> = body
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").unwrap_or(event))
        .collect();
    assert_eq!(events.pop(), Some("[DONE]"), "a stream ends with [DONE]");
    events
        .into_iter()
        .map(|event| serde_json::from_str(event).unwrap_or_default())
        .collect()
}

async fn only_call(provider: &Provider) -> Result<ModelCall> {
    let mut calls = provider.client().calls().await?;
    assert_eq!(calls.len(), 1);
    calls.pop().ok_or_else(|| Error::NoKit(String::new()))
}

#[tokio::test]
async fn provider_answers_and_records_the_counts_it_was_told() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let message = "hi [[in=120]] [[out=45]] [[cache_read=30]]";
    let answer = ask(&provider, KEY, message, json!({})).await?.json()?;
    assert_eq!(answer["choices"][0]["message"]["content"], "echo: hi");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["prompt_tokens"], 150);
    assert_eq!(
        answer["usage"]["prompt_tokens_details"]["cached_tokens"],
        30
    );
    assert_eq!(answer["usage"]["completion_tokens"], 45);
    assert_eq!(answer["usage"]["total_tokens"], 195);

    let call = only_call(&provider).await?;
    assert_eq!(answer["id"], call.id);
    assert_eq!(
        (
            call.prompt_tokens,
            call.cached_tokens,
            call.completion_tokens
        ),
        (150, 30, 45)
    );
    assert_eq!(
        (call.key.as_str(), call.model.as_str(), call.status),
        (KEY, "test-small", 200)
    );
    assert!(call.finished && !call.stream);
    Ok(())
}

#[tokio::test]
async fn provider_streams_usage_only_when_asked() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let silent = ask(&provider, KEY, "hi", json!({"stream": true})).await?;
    assert_eq!(silent.header("content-type"), Some("text/event-stream"));
    assert!(
        events(&silent.text())
            .iter()
            .all(|chunk| chunk.get("usage").is_none())
    );

    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let mut chunks = events(&ask(&provider, KEY, "hi [[words=3]]", options).await?.text());
    let last = chunks.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 20);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.get("usage") == Some(&Value::Null))
    );
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "word1 word2 word3");
    assert!(
        provider
            .client()
            .calls()
            .await?
            .iter()
            .all(|call| call.finished && call.stream)
    );
    Ok(())
}

#[tokio::test]
async fn provider_bills_a_reader_that_left_for_what_it_got() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    // No reader stays for the second word, which comes after a minute.
    let message = "[[words=10]] [[out=100]] [[in=7]] [[chunk_delay=60000]]";
    let body =
        json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": message}]});
    let mut call = start(&provider, &body).await?;
    let first = call
        .frame()
        .await
        .and_then(|frame| frame.ok()?.into_data().ok());
    assert!(
        first.is_some_and(|data| data.starts_with(b"data: ")),
        "the first event comes at once"
    );
    drop(call);

    let call = only_call(&provider).await?;
    assert_eq!(
        (call.prompt_tokens, call.completion_tokens, call.finished),
        (7, 0, false)
    );
    Ok(())
}

async fn start(provider: &Provider, body: &Value) -> Result<hyper::body::Incoming> {
    let connection = |error| Error::Connection {
        peer: provider.url(),
        source: Box::new(error),
    };
    let stream = tokio::net::TcpStream::connect(provider.url().replace("http://", ""))
        .await
        .map_err(|error| Error::Connection {
            peer: provider.url(),
            source: Box::new(error),
        })?;
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .map_err(connection)?;
    tokio::spawn(driver);
    let request = ::http::Request::post("/v1/chat/completions")
        .header("host", "provider")
        .header("authorization", format!("Bearer {KEY}"))
        .body(body.to_string())
        .map_err(|error| Error::Connection {
            peer: provider.url(),
            source: Box::new(error),
        })?;
    sender
        .send_request(request)
        .await
        .map(::http::Response::into_body)
        .map_err(connection)
}

#[tokio::test]
async fn provider_calls_a_tool_once_in_a_turn() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    let message = r#"look [[tool=ls {"path":"."}]]"#;
    let answer = ask(&provider, KEY, message, json!({})).await?.json()?;
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(
        call["function"],
        json!({"name": "ls", "arguments": r#"{"path":"."}"#})
    );

    let messages = json!({"messages": [
        {"role": "user", "content": message},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "README.md"},
    ]});
    let answer = ask(&provider, KEY, message, messages).await?.json()?;
    assert_eq!(answer["choices"][0]["message"]["content"], "echo: look");
    Ok(())
}

#[tokio::test]
async fn provider_refuses_an_unknown_key_and_bills_nothing() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    assert_eq!(ask(&provider, "sk-b", "hi", json!({})).await?.status, 401);
    let call = only_call(&provider).await?;
    assert_eq!(
        (call.key.as_str(), call.status, call.prompt_tokens),
        ("sk-b", 401, 0)
    );
    assert!(!call.finished);
    Ok(())
}

#[tokio::test]
async fn provider_fails_when_told_to() -> Result<()> {
    let provider = Provider::start([KEY]).await?;
    assert_eq!(
        ask(&provider, KEY, "[[status=429]]", json!({}))
            .await?
            .status,
        429
    );
    assert_eq!(only_call(&provider).await?.completion_tokens, 0);
    Ok(())
}

// === the issuer ===

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap_or_default()).unwrap_or_default()
}

#[tokio::test]
async fn issuer_signs_alice_in_and_gives_her_an_access_token() -> Result<()> {
    let kit = Kit::from_env()?;
    let token = kit.issuer().token("alice").await?;
    let (header, claims) = (part(&token, 0), part(&token, 1));
    assert_eq!(
        (&header["typ"], &header["alg"]),
        (&json!("at+jwt"), &json!("RS256"))
    );
    assert_eq!(claims["iss"], kit.issuer);
    assert_eq!(
        (&claims["sub"], &claims["aud"]),
        (&json!("alice"), &json!(AUDIENCE))
    );
    assert_eq!(claims["email"], "alice@example.com");

    let keys = http::get(&format!("{}/jwks", kit.issuer), None)
        .await?
        .json()?;
    let mut keys = keys["keys"].as_array().into_iter().flatten();
    assert!(
        keys.any(|key| key["kid"] == header["kid"]),
        "the key it is signed with is published"
    );
    Ok(())
}

#[tokio::test]
async fn issuer_gives_the_lifetime_and_the_audience_that_were_asked_for() -> Result<()> {
    let kit = Kit::from_env()?;
    let token = kit
        .issuer()
        .token_for("admin", "elsewhere", Duration::from_secs(7))
        .await?;
    let claims = part(&token, 1);
    let seconds = |name: &str| claims[name].as_u64().unwrap_or_default();
    assert_eq!(seconds("exp") - seconds("iat"), 7);
    assert_eq!(claims["aud"], "elsewhere");
    assert_eq!(claims["groups"], json!(["staff", "openclaw-admins"]));
    Ok(())
}

#[tokio::test]
async fn issuer_knows_no_strangers() -> Result<()> {
    let refused = Kit::from_env()?.issuer().token("Mallory Stranger").await;
    assert!(
        matches!(refused, Err(Error::Unexpected { what: "page", .. })),
        "{refused:?}"
    );
    Ok(())
}

// === the stores ===

async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.map_err(|error| Error::Connection {
        peer: "Postgres".to_owned(),
        source: Box::new(error),
    })?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn postgres_gives_each_test_a_database_of_its_own() -> Result<()> {
    let kit = Kit::from_env()?;
    let (one, other) = (kit.database().await?, kit.database().await?);
    let made = connect(&one)
        .await?
        .batch_execute("CREATE TABLE t ()")
        .await;
    assert!(made.is_ok(), "{made:?}");
    let found = connect(&other).await?.query("SELECT FROM t", &[]).await;
    assert!(found.is_err());
    Ok(())
}

#[tokio::test]
async fn postgres_keeps_through_a_crash_what_it_was_told() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Postgres::start(dir.path()).await?;
    let told = connect(&server.url())
        .await?
        .batch_execute("CREATE TABLE kept AS SELECT 7 AS number")
        .await;
    assert!(told.is_ok(), "{told:?}");
    server.kill().await?;
    assert!(connect(&server.url()).await.is_err());
    server.start_again().await?;
    let kept = connect(&server.url())
        .await?
        .query_one("SELECT number FROM kept", &[])
        .await
        .unwrap();
    assert_eq!(kept.get::<_, i32>(0), 7);
    server.stop().await
}

/// Sends lines with the password before them, and answers what is said to the last.
async fn tell(server: &Redis, line: &str) -> Result<String> {
    let failed = |source: std::io::Error| Error::Connection {
        peer: "Redis".to_owned(),
        source: Box::new(source),
    };
    let url = server.url();
    let password = url.split(['@', ':']).nth(2).unwrap_or_default();
    let mut stream = TcpStream::connect(server.address()).await.map_err(failed)?;
    let lines = format!("AUTH {password}\r\n{line}\r\nQUIT\r\n");
    stream.write_all(lines.as_bytes()).await.map_err(failed)?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await.map_err(failed)?;
    Ok(said.replace("\r\n", " "))
}

#[tokio::test]
async fn redis_wants_its_password_and_forgets_when_it_ends() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Redis::start(dir.path()).await?;
    assert_eq!(tell(&server, "SET key word").await?, "+OK +OK +OK ");
    assert_eq!(tell(&server, "GET key").await?, "+OK $4 word +OK ");
    server.kill().await?;
    server.start_again().await?;
    assert_eq!(tell(&server, "GET key").await?, "+OK $-1 +OK ");
    Ok(())
}

// === OpenClaw ===

#[tokio::test]
async fn openclaw_lets_the_administration_channel_in_by_password() -> Result<()> {
    let kit = Kit::from_env()?;
    let scopes = ["operator.read", "operator.admin"];
    let (mut ws, hello) =
        openclaw::operator(&kit.openclaw, &kit.openclaw_password, &scopes).await?;
    assert_eq!(hello["type"], "hello-ok");
    assert_eq!(hello["auth"]["scopes"], json!(scopes));

    let config = ws.call("config.get", json!({})).await?;
    let config = &config["config"];
    assert_eq!(config["models"]["mode"], "replace");
    let model = &config["agents"]["defaults"]["model"];
    assert_eq!(
        model,
        &Value::Null,
        "an agent has a model only from the gateway"
    );
    ws.close().await
}

#[tokio::test]
async fn openclaw_refuses_a_wrong_password() -> Result<()> {
    let kit = Kit::from_env()?;
    let refused = openclaw::operator(&kit.openclaw, "guess", &["operator.read"]).await;
    assert!(matches!(
        refused,
        Err(Error::Unexpected {
            what: "response",
            ..
        })
    ));
    Ok(())
}

#[tokio::test]
async fn openclaw_wants_to_know_whom_a_proxy_forwards() -> Result<()> {
    let kit = Kit::from_env()?;
    let url = kit.openclaw.replacen("http", "ws", 1);
    let refused = Ws::connect(&url, &[("x-forwarded-for", "127.0.0.1")]).await;
    assert!(matches!(refused, Err(Error::Refused(status)) if status == 403));
    Ok(())
}
