//! The issuer as sign-in needs it, and what tests may ask of it beside the protocol.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gateway_tests::{
    browser::Browser,
    error::Result,
    http,
    issuer::{Behaviour, Issuer, IssuerClient, RegisteredClient},
    kit::Kit,
    secret,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

/// An issuer of its own, since exact numbers are counted or it is stopped.
async fn own() -> Result<(TempDir, Issuer)> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let issuer = Issuer::start(Kit::from_env()?.install, dir.path()).await?;
    Ok((dir, issuer))
}

fn claims(token: &Value) -> Value {
    let part = token.as_str().unwrap_or_default().split('.').nth(1);
    let json = URL_SAFE_NO_PAD.decode(part.unwrap_or_default());
    serde_json::from_slice(&json.unwrap_or_default()).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

const GATEWAY: &str = "http://127.0.0.1:1";
const CALLBACK: &str = "http://127.0.0.1:1/auth/callback";

async fn sign_in(
    issuer: &IssuerClient,
    rest: &Value,
) -> Result<(Browser, RegisteredClient, Value)> {
    sign_in_as("alice", issuer, rest).await
}

async fn sign_in_as(
    account: &str,
    issuer: &IssuerClient,
    rest: &Value,
) -> Result<(Browser, RegisteredClient, Value)> {
    let client = issuer.register(GATEWAY, rest).await?;
    let mut browser = Browser::new();
    let tokens = issuer
        .tokens(&mut browser, &client, CALLBACK, account)
        .await?;
    Ok((browser, client, tokens))
}

#[tokio::test]
async fn a_client_chooses_lifetime_and_form_of_its_access_tokens() -> Result<()> {
    let issuer = Kit::from_env()?.issuer();
    let (_, client, tokens) = sign_in(&issuer, &json!({"access_token_ttl": 7})).await?;
    let access = claims(&tokens["access_token"]);
    assert_eq!(tokens["expires_in"], 7, "{tokens}");
    assert_eq!(access["client_id"], client.id.as_str());
    let id = claims(&tokens["id_token"]);
    assert!(!text(&id["sid"]).is_empty(), "{id}");
    assert_eq!(
        (&id["sub"], &id["groups"]),
        (&json!("alice"), &json!(["staff"]))
    );

    let opaque = json!({"access_token_format": "opaque", "access_token_ttl": 60});
    let (_, client, tokens) = sign_in(&issuer, &opaque).await?;
    let token = text(&tokens["access_token"]);
    assert!(!token.contains('.'), "{token}");
    let worth = issuer.introspect(&client, token).await?.json()?;
    assert_eq!(worth["active"], true);
    assert_eq!(
        (&worth["sub"], &worth["aud"], &worth["iss"]),
        (
            &json!("alice"),
            &json!("openclaw"),
            &json!(Kit::from_env()?.issuer)
        )
    );
    let worth = issuer.introspect(&client, "nothing").await?.json()?;
    assert_eq!(worth, json!({"active": false}));

    let plain = json!({"access_token_format": "userinfo"});
    let (_, _, tokens) = sign_in(&issuer, &plain).await?;
    let me = format!("{}/me", Kit::from_env()?.issuer);
    let me = http::get(&me, Some(text(&tokens["access_token"])))
        .await?
        .json()?;
    assert_eq!(
        (&me["sub"], &me["email"]),
        (&json!("alice"), &json!("alice@example.com"))
    );
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_second_use_ends_all() -> Result<()> {
    let (_dir, issuer) = own().await?;
    let issuer = issuer.client();
    let (_, client, tokens) = sign_in(&issuer, &json!({})).await?;
    let first = text(&tokens["refresh_token"]).to_owned();
    let renewed = issuer.refresh(&client, &first).await?.json()?;
    let second = text(&renewed["refresh_token"]).to_owned();
    assert!(!second.is_empty() && second != first, "{renewed}");

    let again = issuer.refresh(&client, &first).await?;
    assert_eq!(again.status, 400);
    assert_eq!(again.json()?["error"], "invalid_grant");
    assert_eq!(issuer.refresh(&client, &second).await?.status, 400);

    assert_eq!(issuer.count_grants(&client.id, "refresh_token").await?, 3);
    assert_eq!(
        issuer
            .count_grants(&client.id, "authorization_code")
            .await?,
        1
    );
    assert_eq!(issuer.count("/token").await?, 4);
    let requests = issuer.requests().await?;
    let failed = requests
        .iter()
        .filter(|one| one.error.as_deref() == Some("invalid_grant"));
    assert_eq!(failed.count(), 2);
    Ok(())
}

/// Answers one request with 200, and tells its head and body.
async fn one_request(listener: &TcpListener) -> std::io::Result<String> {
    let (mut stream, _) = listener.accept().await?;
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("logout_token=") || text.matches('.').count() < 2 {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(
            buffer.get(..read).unwrap_or_default(),
        ));
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await?;
    Ok(text)
}

#[tokio::test]
async fn it_tells_clients_when_somebody_signs_out_there() -> Result<()> {
    let issuer = Kit::from_env()?.issuer();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/told", listener.local_addr().unwrap());
    let told = json!({"backchannel_logout_uri": uri});
    let (mut browser, client, tokens) = sign_in(&issuer, &told).await?;
    let id_token = text(&tokens["id_token"]).to_owned();
    let start = format!(
        "{}/session/end?id_token_hint={id_token}&post_logout_redirect_uri={GATEWAY}/auth/signed-out&state=s",
        Kit::from_env()?.issuer
    );
    let (end, request) = tokio::join!(browser.sign_out(&start, GATEWAY), one_request(&listener),);
    assert_eq!(end?, format!("{GATEWAY}/auth/signed-out?state=s"));
    let request = request.unwrap();
    let (_, token) = request.split_once("logout_token=").unwrap();
    let logout = claims(&json!(token));
    assert_eq!(logout["sid"], claims(&json!(id_token))["sid"], "{logout}");
    assert_eq!(logout["aud"], client.id.as_str());
    let refused = issuer
        .refresh(&client, text(&tokens["refresh_token"]))
        .await?;
    assert_eq!(refused.status, 400, "the session is over");

    // The same by an administrator.
    let account = secret::mark()?;
    let (_, client, tokens) = sign_in_as(&account, &issuer, &told).await?;
    let (told, request) = tokio::join!(issuer.end_sessions(&account), one_request(&listener));
    let sid = claims(&tokens["id_token"])["sid"].clone();
    let told = told?;
    let told = told.iter().find(|one| sid == one.sid.as_str()).unwrap();
    assert_eq!((&told.client_id, &told.failed), (&client.id, &None));
    assert!(request.unwrap().contains("logout_token="));
    let refused = issuer
        .refresh(&client, text(&tokens["refresh_token"]))
        .await?;
    assert_eq!(refused.status, 400, "the session is over");
    Ok(())
}

#[tokio::test]
async fn it_signs_anything_with_keys_that_can_be_replaced() -> Result<()> {
    let (_dir, issuer) = own().await?;
    let keys = format!("{}/jwks", issuer.url());
    let issuer = issuer.client();
    let before = http::get(&keys, None).await?.text();
    let (_, client, tokens) = sign_in(&issuer, &json!({})).await?;
    let header = json!({"typ": "logout+jwt"});
    let token = issuer
        .sign("ES256", &header, &json!({"any": "thing"}))
        .await?;
    let kid = text(&part(&token, 0)["kid"]).to_owned();
    assert!(before.contains(&kid) && kid.starts_with("es256"), "{kid}");
    assert_eq!(part(&token, 0)["typ"], "logout+jwt");
    assert_eq!(part(&token, 1), json!({"any": "thing"}));

    issuer.rotate_keys().await?;
    let after = http::get(&keys, None).await?.text();
    assert!(!after.contains(&kid), "{after}");
    // What people have goes on.
    let renewed = issuer
        .refresh(&client, text(&tokens["refresh_token"]))
        .await?;
    let renewed = renewed.json()?;
    let kid = text(&part(text(&renewed["access_token"]), 0)["kid"]).to_owned();
    assert!(after.contains(&kid), "{kid} {after}");
    Ok(())
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap_or_default()).unwrap_or_default()
}

#[tokio::test]
async fn it_misbehaves_when_told_to() -> Result<()> {
    let (_dir, mut server) = own().await?;
    let issuer = server.client();
    let (_, client, tokens) = sign_in(&issuer, &json!({})).await?;
    let token = text(&tokens["refresh_token"]).to_owned();
    let failing = Behaviour {
        status: Some(503),
        times: Some(2),
        ..Behaviour::default()
    };
    issuer.behave("/token", failing).await?;
    for status in [503, 503, 200] {
        assert_eq!(issuer.refresh(&client, &token).await?.status, status);
    }
    let slow = Behaviour {
        before_ms: Some(200),
        after_ms: Some(200),
        ..Behaviour::default()
    };
    issuer.behave("/jwks", slow).await?;
    let keys = format!("{}/jwks", server.url());
    let from = Instant::now();
    http::get(&keys, None).await?;
    assert!(from.elapsed() >= Duration::from_millis(400));

    server.process().signal(Signal::STOP);
    let hangs = tokio::time::timeout(Duration::from_millis(300), http::get(&keys, None)).await;
    assert!(hangs.is_err(), "{hangs:?}");
    server.process().signal(Signal::CONT);
    let before = http::get(&keys, None).await?.text();

    server.kill().await?;
    assert!(http::get(&keys, None).await.is_err());
    server.start_again().await?;
    assert_eq!(
        http::get(&keys, None).await?.text(),
        before,
        "the same keys"
    );
    Ok(())
}

#[tokio::test]
async fn stopped_in_order_it_goes_on_where_it_was() -> Result<()> {
    let (_dir, mut server) = own().await?;
    let issuer = server.client();
    let (mut browser, client, tokens) = sign_in(&issuer, &json!({})).await?;
    server.stop().await?;
    server.start_again().await?;
    let renewed = issuer
        .refresh(&client, text(&tokens["refresh_token"]))
        .await?;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    // Signed in already: nobody is asked for a name.
    let again = issuer
        .tokens(&mut browser, &client, CALLBACK, "nobody else")
        .await?;
    assert_eq!(claims(&again["id_token"])["sub"], "alice");
    Ok(())
}
