//! Nothing of one person reaches the other, whatever either names.

use ::http::{Request, StatusCode};
use gateway_tests::{error::Result, http, person::Person};
use serde_json::{Value, json};

use crate::{CHAT, RESPONSES, World, chat, response, runs, stream::ask};

/// Headers that OpenClaw or a proxy would take for a name, in spellings that become the same.
fn spellings(user: &str, agent: &str, session: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, value) in [
        ("x-openclaw-agent-id", agent),
        ("x-openclaw-agent", agent),
        ("x-openclaw-session-key", session),
        ("x-openclaw-model", "openai/other"),
        ("x-openclaw-scopes", "operator.admin"),
        ("x-openclaw-message-channel", "telegram"),
        ("x-forwarded-user", user),
        ("x-user-id", user),
        ("x-session-key", session),
        ("x-auth-request-user", user),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "evil.example"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-original-url", "/tools/invoke"),
        ("openai-organization", agent),
    ] {
        all.push((name.to_owned(), value.to_owned()));
        all.push((name.to_uppercase(), value.to_owned()));
        all.push((name.replace('-', "_"), value.to_owned()));
    }
    all
}

async fn ask_with(
    world: &World,
    person: &Person,
    path: &str,
    headers: &[(String, String)],
    body: &str,
) -> Result<http::Response> {
    let mut request = Request::post(world.gateway.url(path))
        .header("authorization", format!("Bearer {}", person.token))
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    http::send(request, body.to_owned()).await
}

#[tokio::test]
async fn d3_38_d2_21_d2_22_whatever_bob_names_of_alices_is_refused_or_his_own() -> Result<()> {
    let world = World::new(|_| {}).await?;
    let ((alice, canary), (bob, name)) = (world.somebody().await?, world.somebody().await?);
    let asked = &response(&format!("{canary} remember"), json!({"user": "t"}));
    let hers = ask(&world.gateway, RESPONSES, &alice.token, asked).await?;
    let hers = hers.whole().await?;
    let id = hers["id"].as_str().unwrap_or_default().to_owned();
    let agent = hers["model"]
        .as_str()
        .unwrap_or_default()
        .trim_start_matches("openclaw/")
        .to_owned();
    assert!(agent.starts_with("slot-"), "{hers}");
    let session = format!("agent:{agent}:openresponses-user:t");
    let said = format!("{name} mine");
    let mut told = String::new();

    // By what a body can say.
    let mut refused = 0;
    for (path, body) in [
        (CHAT, chat(&said, json!({}))),
        (RESPONSES, response(&said, json!({}))),
    ] {
        for (member, value) in [
            ("model", json!(format!("openclaw/{agent}"))),
            ("model", json!(format!("openclaw:{agent}"))),
            ("model", json!(format!("agent:{agent}"))),
            ("model", json!(format!("OPENCLAW/{agent}"))),
            ("model", json!("openclaw/main")),
            ("sessionKey", json!(session)),
            ("session_key", json!(session)),
            ("SessionKey", json!(session)),
            ("sessionId", json!(session)),
            ("agentId", json!(agent)),
            ("agent", json!({"id": agent})),
            ("conversation", json!(id)),
            ("extra_body", json!({"sessionKey": session})),
            ("workspaceDir", json!("/")),
            ("user", json!([session])),
            ("user", json!({"id": canary})),
        ] {
            let mut body = body.clone();
            body[member] = value;
            let answer = bob.post(path, &body).await?;
            let wanted = if member == "model" { 404 } else { 400 };
            assert_eq!(answer.status, wanted, "{member}: {}", answer.text());
            assert_eq!(answer.json()?["error"]["param"], member);
            refused += 1;
            told.push_str(&answer.text());
        }
    }
    assert_eq!(refused, 32);
    for twice in [
        format!(
            r#"{{"model":"openclaw","model":"openclaw/{agent}","messages":[{{"role":"user","content":"{said}"}}]}}"#
        ),
        format!(
            r#"{{"model":"openclaw","\u006dodel":"openclaw/{agent}","messages":[{{"role":"user","content":"{said}"}}]}}"#
        ),
        format!(
            r#"{{"model":"openclaw","messages":[{{"role":"user","content":"{said}"}}],"user":"a","user":"{session}"}}"#
        ),
    ] {
        let answer = ask_with(&world, &bob, CHAT, &[], &twice).await?;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    }
    assert!(
        world.kit.provider().calls_about(&name).await?.is_empty(),
        "nothing of it ran"
    );

    // What is taken is his own, whatever it is called: hers does not go on, and his agent answers.
    let (mut asked, mut own) = (0, String::new());
    for user in [
        "t",
        &session,
        &format!("x:{session}"),
        &format!("{agent}:main"),
        "T",
        "x:subagent:y",
        "cron:z",
    ] {
        let answer = bob
            .post(
                RESPONSES,
                &response(&said, json!({"user": user, "previous_response_id": id})),
            )
            .await?;
        let answer = answer.expect_status(StatusCode::OK)?.json()?;
        assert_ne!(answer["model"], hers["model"], "{user}");
        own = answer["model"].to_string();
        told.push_str(&answer.to_string());
        asked += 1;
    }
    // All the headers at once: each is dropped.
    let headers = spellings(&canary, &agent, &session);
    for (path, body) in [
        (CHAT, chat(&said, json!({}))),
        (RESPONSES, response(&said, json!({}))),
    ] {
        let answer = ask_with(&world, &bob, path, &headers, &body.to_string()).await?;
        let answer = answer.expect_status(StatusCode::OK)?.json()?;
        assert_eq!(answer["model"].to_string(), own);
        told.push_str(&answer.to_string());
        asked += 1;
    }
    // Hop by hop, they would take ours away.
    let hop = [(
        "connection".to_owned(),
        "close, x-forwarded-user, x-openclaw-scopes, x-forwarded-for".to_owned(),
    )];
    let answer = ask_with(
        &world,
        &bob,
        CHAT,
        &hop,
        &chat(&said, json!({})).to_string(),
    )
    .await?;
    let answer = answer.expect_status(StatusCode::OK)?.json()?;
    assert_eq!(answer["model"].to_string(), own);
    asked += 1;
    told.push_str(&bob.get("/v1/models").await?.to_string());
    assert!(!told.contains(&canary), "{told}");

    // What the model was asked in his name holds nothing of hers either, and nobody but he has paid.
    let calls = world.kit.provider().calls_about(&name).await?;
    assert_eq!(calls.len(), asked);
    assert!(
        !calls.iter().any(|call| call.last_user.contains(&canary)),
        "{calls:?}"
    );
    assert_eq!(runs(&world, &name).await?.len(), asked);
    assert_eq!(runs(&world, &canary).await?.len(), 1);
    // Neither is anything of his in her conversations.
    let mut socket = alice.open().await?;
    let list = json!({"includeDerivedTitles": true, "includeLastMessage": true});
    let seen = socket.ws.call("sessions.list", list).await?.to_string();
    assert!(seen.contains(&canary) && !seen.contains(&name), "{seen}");
    Ok(())
}

/// What an answer may say in its head.
const HEADERS: [&str; 10] = [
    "cache-control",
    "content-length",
    "content-type",
    "date",
    "retry-after",
    "transfer-encoding",
    "vary",
    "x-content-type-options",
    // Ours, of a request that was refused.
    "x-request-id",
    "x-should-retry",
];

#[tokio::test]
async fn d2_27_nothing_of_the_instances_own_is_in_the_head_of_an_answer() -> Result<()> {
    let world = World::new(|_| {}).await?;
    let (person, name) = world.somebody().await?;
    for (path, body, status) in [
        (CHAT, chat(&name, json!({})), 200),
        (CHAT, chat(&name, json!({"stream": true})), 200),
        (RESPONSES, response(&name, json!({"stream": true})), 200),
        (CHAT, chat(&name, json!({"temperature": 9})), 400),
        (CHAT, chat(&format!("{name} [[status=400]]"), json!({})), 0),
    ] {
        let mut answer = ask(&world.gateway, path, &person.token, &body).await?;
        if status != 0 {
            assert_eq!(answer.status, status, "{path}");
        }
        for header in answer.headers.keys() {
            let is_known = HEADERS.contains(&header.as_str())
                || header.as_str().starts_with("access-control-");
            assert!(is_known, "{header}: {:?}", answer.headers);
        }
        assert_eq!(answer.headers["cache-control"], "no-store");
        let cors: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| name.as_str() == "access-control-allow-origin")
            .collect();
        assert!(cors.is_empty(), "no origin was named: {cors:?}");
        answer.rest().await?;
    }
    Ok(())
}

#[tokio::test]
async fn d7_67_who_is_not_signed_in_or_has_another_key_or_comes_from_another_site_is_refused()
-> Result<()> {
    let world = World::new(|_| {}).await?;
    let (person, name) = world.somebody().await?;
    let body = chat(&name, json!({}));
    for path in [CHAT, RESPONSES] {
        for token in [None, Some("nonsense"), Some("")] {
            let answer = http::post(&world.gateway.url(path), token, &body).await?;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{token:?}");
            let error = answer.json()?["error"].clone();
            assert_eq!(error["code"], "invalid_api_key");
            assert!(error["message"].is_string() && answer.header("www-authenticate").is_some());
        }
        let foreign = [
            ("sec-fetch-site".to_owned(), "cross-site".to_owned()),
            ("origin".to_owned(), "https://evil.example".to_owned()),
        ];
        let answer = ask_with(&world, &person, path, &foreign, &body.to_string()).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());
    }
    assert_eq!(
        http::get(&world.gateway.url("/v1/models"), None)
            .await?
            .status,
        401
    );
    let mut browser = gateway_tests::browser::Browser::new();
    browser.sign_in_at(&world.gateway, &name).await?;
    for (scopes, status) in [(json!(["read"]), 403), (json!(["chat"]), 200)] {
        let made = json!({"name": "one", "scopes": scopes, "expiresInDays": 1});
        let key = key(&mut browser, &world, &made).await?;
        let answer = http::post(&world.gateway.url(CHAT), Some(&key.1), &body).await?;
        assert_eq!(answer.status, status, "{}", answer.text());
        let answer = http::get(&world.gateway.url("/v1/models"), Some(&key.1)).await?;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    // A browser's own session, as the page of ours that it is.
    let fetched = browser
        .fetch(
            ::http::Method::POST,
            &world.gateway.url(CHAT),
            &body.to_string(),
        )
        .await?;
    assert_eq!(fetched.status, StatusCode::OK, "{}", fetched.text());
    assert_eq!(runs(&world, &name).await?.len(), 2);
    Ok(())
}

/// Makes a personal access token, and answers its id and itself.
pub(crate) async fn key(
    browser: &mut gateway_tests::browser::Browser,
    world: &World,
    wanted: &Value,
) -> Result<(String, String)> {
    let url = world.gateway.url("/api/keys");
    let made = browser
        .fetch(::http::Method::POST, &url, &wanted.to_string())
        .await?;
    let made = made.expect_status(StatusCode::CREATED)?.json()?;
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    Ok((text("id"), text("token")))
}
