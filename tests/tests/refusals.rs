//! What the gateway refuses, and what is left then: nothing.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::{fs, process::Stdio, time::Duration};

use gateway_tests::{
    error::{Error, Result},
    gateway::{Config, Gateway},
    http,
    issuer::AUDIENCE,
    kit::Kit,
    person::{Person, connect_params, send_params},
    port::free_address,
    ws::Ws,
};
use serde_json::{Value, json};
use tokio_websockets::Message;

async fn start(kit: &Kit) -> Result<(tempfile::TempDir, Gateway)> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(Config::new(kit, dir.path())?, dir.path()).await?;
    Ok((dir, gateway))
}

/// Tokens that fail one rule each.
async fn bad_tokens(kit: &Kit) -> Result<Vec<(&'static str, String)>> {
    let good = kit.issuer().token("bob").await?;
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("a JWT has three parts")
    };
    let hour = Duration::from_secs(3_600);
    Ok(vec![
        (
            "another audience",
            kit.issuer().token_for("bob", "somebody-else", hour).await?,
        ),
        ("no signature", format!("{header}.{payload}.")),
        ("two parts", format!("{header}.{payload}")),
        ("alg none", format!("eyJhbGciOiJub25lIn0.{payload}.")),
        (
            "a changed payload",
            format!("{header}.{}x.{signature}", &payload[..payload.len() - 1]),
        ),
        ("no token", "bearer".to_owned()),
        ("too long", "x".repeat(20_000)),
    ])
}

#[tokio::test]
async fn d1_a_token_that_fails_a_rule_opens_nothing() -> Result<()> {
    let kit = Kit::from_env()?;
    let (_dir, gateway) = start(&kit).await?;
    let info = gateway.url("/api/user/info");
    let missing = http::get(&info, None).await?;
    assert_eq!(missing.status, 401);
    let challenge = missing.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer"), "{challenge}");
    assert!(
        !challenge.contains("error"),
        "RFC 6750 §3.1: no error without a token"
    );
    for (what, token) in bad_tokens(&kit).await? {
        let refused = http::get(&info, Some(&token)).await?;
        assert!(
            refused.status == 401 || refused.status == 400,
            "{what}: {}",
            refused.status
        );
        assert!(
            refused
                .header("www-authenticate")
                .is_some_and(|value| value.starts_with("Bearer")),
            "{what}"
        );
        let body = refused.text();
        for detail in ["audience", "signature", "expired", "kid", "alg"] {
            assert!(!body.to_lowercase().contains(detail), "{what}: {body}");
        }

        let bearer = format!("Bearer {token}");
        let upgrade = Ws::connect(&gateway.ws_url("/ws"), &[("authorization", &bearer)]).await;
        assert!(
            matches!(upgrade, Err(Error::Refused(status)) if status.is_client_error()),
            "{what}: upgrade"
        );

        let mut ws = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
        ws.event("connect.challenge").await?;
        let refused = ws
            .request("connect", connect_params(&json!({"token": token})))
            .await?;
        assert_eq!(refused["ok"], false, "{what}: {refused}");
        assert_eq!(ws.closed().await?.0, 1008, "{what}");
    }
    let mut ws = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    ws.event("connect.challenge").await?;
    let refused = ws.request("connect", connect_params(&json!({}))).await?;
    assert_eq!(
        refused["error"]["details"]["code"], "AUTH_TOKEN_MISSING",
        "{refused}"
    );
    assert_eq!(ws.closed().await?.0, 1008);
    Ok(())
}

#[tokio::test]
async fn d3_35_a_socket_ends_with_its_token() -> Result<()> {
    let kit = Kit::from_env()?;
    let (_dir, gateway) = start(&kit).await?;
    // A leeway of the verifier's would not keep a socket: it ends at the token's own time.
    let lifetime = Duration::from_secs(20);
    let token = kit.issuer().token_for("admin", AUDIENCE, lifetime).await?;
    let mut socket = Person::with_token(token, &gateway).open().await?;
    assert_eq!(socket.ws.closed().await?.0, 4401);
    Ok(())
}

#[tokio::test]
async fn frames_that_name_somebody_else_change_nothing() -> Result<()> {
    let kit = Kit::from_env()?;
    let (_dir, gateway) = start(&kit).await?;
    let bob = Person::sign_in(&kit, "bob", &gateway).await?;
    let mut socket = bob.open().await?;
    let text = "d3-38-never-said";
    for params in [
        json!({"sessionKey": "agent:slot-149:main"}),
        json!({"sessionKey": "agent:main:main"}),
        json!({"sessionKey": "user:alice"}),
        json!({"sessionKey": "global"}),
        json!({"sessionKey": "AGENT:slot-001:main"}),
        json!({"sessionKey": "main", "agentId": "slot-149"}),
        json!({"sessionKey": "main", "workspaceDir": "/"}),
        json!({"sessionKey": "main", "authProfileId": "user-alice-openai"}),
        json!({"sessionKey": "main", "sessionId": "19aa071e-665f-46c2-8c18-7a40a2236b70"}),
        json!({"sessionKey": ["agent:slot-149:main"]}),
        json!({"sessionKey": "main", "attachments": [{"sessionKey": "agent:slot-149:main"}]}),
    ] {
        let mut frame = send_params(text)?;
        for (name, value) in params.as_object().into_iter().flatten() {
            frame[name] = value.clone();
        }
        let refused = socket.ws.request("chat.send", frame).await?;
        assert_eq!(refused["ok"], false, "{params}: {refused}");
    }
    for frame in [
        r#"{"type":"req","id":"e1","method":"chat.send","params":{"sessionKey":"main","\u0073essionKey":"agent:slot-149:main","message":"x","idempotencyKey":"k"}}"#,
        r#"{"type":"req","id":"e2","method":"chat.send","params":{"SessionKey":"agent:slot-149:main","message":"x","idempotencyKey":"k"}}"#,
        r#"{"type":"req","id":"e3","method":"config.get","params":{}}"#,
        r#"{"type":"req","id":"e4","method":"connect","params":{}}"#,
        r#"{"type":"req","id":"e5","method":"sessions.list","params":{"agentId":"slot-149"}}"#,
        r#"{"type":"req","id":"e6","method":"models.list","params":["slot-149"]}"#,
    ] {
        socket.ws.send(frame).await?;
        let id: Value = serde_json::from_str::<Value>(frame)
            .map(|frame| frame["id"].clone())
            .unwrap_or_default();
        let refused = socket
            .ws
            .find(|frame| frame["type"] == "res" && frame["id"] == id)
            .await?;
        assert_eq!(refused["ok"], false, "{frame}: {refused}");
    }
    // The socket goes on, and nothing of all that was said to anybody or counted.
    let list = socket.ws.call("sessions.list", json!({})).await?;
    assert!(!list.to_string().contains("slot-149"), "{list}");
    assert!(kit.provider().calls_about(text).await?.is_empty());
    let quota = bob.get("/api/quota").await?;
    assert!(!quota.to_string().contains(r#""used":1"#), "{quota}");

    for (frame, code) in [
        (
            Message::text("{\"type\":\"req\",\"method\":\"models.list\"}"),
            1007,
        ),
        (Message::text("not json"), 1007),
        (Message::text("[]"), 1007),
        (
            Message::binary(&b"{\"type\":\"req\",\"id\":\"1\",\"method\":\"models.list\"}"[..]),
            1003,
        ),
    ] {
        let mut socket = bob.open().await?;
        socket.ws.send_message(frame).await?;
        assert_eq!(socket.ws.closed().await?.0, code);
    }
    Ok(())
}

#[tokio::test]
async fn an_instance_that_is_down_is_said_at_once() -> Result<()> {
    let mut kit = Kit::from_env()?;
    kit.openclaw = format!("http://{}", free_address()?);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::spawn(Config::new(&kit, dir.path())?, dir.path())?;
    let alive = gateway.url("/livez");
    while http::get(&alive, None).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ready = http::get(&gateway.url("/readyz"), None).await?;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()?["failing"], json!(["instance"]));

    let person = Person::sign_in(&kit, "bob", &gateway).await?;
    let made = person.post("/api/openclaw/initialize", &json!({})).await?;
    assert_eq!(made.status, 503, "{}", made.text());
    assert!(made.header("retry-after").is_some());

    let mut ws = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    ws.event("connect.challenge").await?;
    let refused = ws
        .request("connect", connect_params(&json!({"token": person.token})))
        .await?;
    assert_eq!(refused["error"]["code"], "UNAVAILABLE", "{refused}");
    assert_eq!(refused["error"]["retryable"], true);
    assert_eq!(ws.closed().await?.0, 1013);
    Ok(())
}

#[tokio::test]
async fn egress_takes_virtual_keys_only() -> Result<()> {
    let kit = Kit::from_env()?;
    let (_dir, gateway) = start(&kit).await?;
    let call =
        json!({"model": "test-small", "messages": [{"role": "user", "content": "egress-never"}]});
    let url = gateway.egress_url("/openai/v1/chat/completions");
    let token = kit.issuer().token("bob").await?;
    for key in [
        None,
        Some("ocg-vk-unknown"),
        Some(kit.provider_key.as_str()),
        Some(token.as_str()),
    ] {
        let refused = http::post(&url, key, &call).await?;
        assert_eq!(refused.status, 401, "{key:?}");
    }
    assert_eq!(
        http::get(&gateway.egress_url("/openai/v1/models"), None)
            .await?
            .status,
        404
    );
    assert_eq!(
        http::get(&gateway.egress_url("/metrics"), None)
            .await?
            .status,
        404
    );
    assert_eq!(
        http::get(&gateway.url("/metrics"), None).await?.status,
        404,
        "metrics are not public"
    );
    assert_eq!(
        http::get(&gateway.admin_url("/api/quota"), None)
            .await?
            .status,
        404
    );
    assert!(kit.provider().calls_about("egress-never").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn d3_34_a_client_that_never_says_connect_is_let_go() -> Result<()> {
    let kit = Kit::from_env()?;
    let (_dir, gateway) = start(&kit).await?;
    let mut ws = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    let waited = tokio::time::Instant::now();
    assert_eq!(ws.closed().await?.0, 1008);
    assert!(waited.elapsed() < Duration::from_secs(15));
    Ok(())
}

#[tokio::test]
async fn a_wrong_configuration_says_where_and_changes_nothing() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let good = Config::new(&kit, dir.path())?.text;
    let binary = std::env::var_os("GATEWAY_BIN").expect("tests/run says which binary");
    for (what, text, said) in [
        (
            "an unknown key",
            good.replacen("[store]", "[store]\nflie = \"x\"", 1),
            "flie",
        ),
        (
            "a wrong type",
            good.replacen("tokens_per_day = 2_000_000", "tokens_per_day = -1", 1),
            "tokens_per_day",
        ),
        (
            "a price below zero",
            good.replacen("input = \"3.00\"", "input = \"-3.00\"", 1),
            "input",
        ),
        (
            "money as a number",
            good.replacen("\"100.00\"", "100.0", 1),
            "cost_per_month",
        ),
        (
            "a feature that is not there",
            format!("{good}\n[cells]\ncommand = \"openclaw\"\n"),
            "cells",
        ),
        (
            "one user for everybody's tools",
            good.replacen("mode = \"pool\"", "sandbox_user = \"sandbox\"", 1),
            "sandbox_user",
        ),
        (
            "a user that is an option",
            good.replacen("mode = \"pool\"", "sandbox_user = \"-oProxyCommand={slot}\"", 1),
            "sandbox_user",
        ),
        (
            "the users of another instance",
            [
                good.replacen("mode = \"pool\"", "sandbox_user = \"s-{slot}\"", 1),
                "[[instance]]\nname = \"b\"\nurl = \"http://127.0.0.1:1\"\nsandbox_user = \"s-{slot}\"\n\
                 auth = { kind = \"trusted-proxy\", password = \"p\" }\n"
                    .to_owned(),
            ]
            .join("\n"),
            "stands twice",
        ),
        ("no TOML", "[server".to_owned(), "line 1"),
    ] {
        let path = dir.path().join("wrong.toml");
        fs::write(&path, text).expect("a file");
        for command in ["check-config", "serve"] {
            let output = std::process::Command::new(&binary)
                .args([command, "--config"])
                .arg(&path)
                .stdin(Stdio::null())
                .output()
                .expect("the gateway runs");
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{what}: {error}");
            assert!(error.contains(said), "{what}: {error}");
        }
    }
    assert!(!dir.path().join("gateway.db").exists(), "nothing was made");
    Ok(())
}

#[tokio::test]
async fn an_instance_that_would_let_nobody_in_is_told_what_to_change() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let good = Config::new(&kit, dir.path())?.text;
    let path = dir.path().join("gateway.toml");
    let run = |command: &str, text: &str| {
        fs::write(&path, text).expect("a file");
        let binary = std::env::var_os("GATEWAY_BIN").expect("tests/run says which binary");
        let output = std::process::Command::new(binary)
            .args([command, "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .expect("the gateway runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (code, said) = run("check-config", &good);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("instance pool-1: is configured as it must be"),
        "{said}"
    );

    // The real OpenClaw is not patched to take them.
    for (line, what) in [
        (
            "origin = \"https://other.internal\"",
            "allowedOrigins must hold \"https://other.internal\"",
        ),
        (
            "extended_chat_params = true",
            "its chat.send refuses workspaceDir",
        ),
    ] {
        let other = good.replacen("mode = \"pool\"", &format!("mode = \"pool\"\n{line}"), 1);
        for command in ["check-config", "serve"] {
            let (code, said) = run(command, &other);
            assert_eq!(code, Some(1), "{command}: {said}");
            assert!(said.contains(what), "{command}: {said}");
        }
    }
    Ok(())
}
