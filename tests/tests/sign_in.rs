//! Signing in, and what ends with it: sessions, sockets, keys, at one gateway and at two, with the real issuer and the real
//! stores.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::time::Duration;

use ::http::{Method, StatusCode};
use gateway_tests::{
    browser::Browser,
    error::{Error, Result},
    gateway::{Config, Gateway},
    http,
    issuer::RegisteredClient,
    kit::Kit,
    person::{Person, connect_params},
    stopwatch::Stopwatch,
    ws::Ws,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// What a session cookie is called.
const COOKIE: &str = "__Host-session";

struct Place {
    _dir: tempfile::TempDir,
    gateway: Gateway,
    client: RegisteredClient,
}

/// A gateway that is a client of its own at the issuer.
async fn start(kit: &Kit, registration: &Value, more: &str) -> Result<Place> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(kit, dir.path())?;
    let url = format!("http://{}", config.public);
    let client = kit.issuer().register(&url, registration).await?;
    let lines = config.text.lines().map(|line| match line {
        line if line.starts_with("client_id = ") => format!("client_id = \"{}\"", client.id),
        line if line.starts_with("client_secret_file = ") => {
            format!("client_secret = \"{}\"", client.secret)
        }
        line => line.to_owned(),
    });
    config.text = lines.collect::<Vec<_>>().join("\n") + "\n" + more;
    let gateway = Gateway::start(config, dir.path()).await?;
    Ok(Place {
        _dir: dir,
        gateway,
        client,
    })
}

/// Opens a socket from a page of the gateway, and is let in.
async fn socket(browser: &Browser, gateway: &Gateway, origin: &str) -> Result<Ws> {
    let mut ws = browser.socket(origin, &gateway.ws_url("/ws")).await?;
    ws.event("connect.challenge").await?;
    ws.call("connect", connect_params(&json!({}))).await?;
    Ok(ws)
}

/// Waits until a socket is closed, which must be within a second, by 4401.
async fn ends(what: &str, ws: &mut Ws) {
    let begun = Stopwatch::start();
    match timeout(10 * SECOND, ws.closed()).await {
        Ok(Ok((code, _))) => assert_eq!(code, 4401, "{what}"),
        other => panic!("{what}: the socket is open still: {other:?}"),
    }
    assert!(
        begun.elapsed() < SECOND,
        "{what} took {:?}",
        begun.elapsed()
    );
}

async fn status(
    browser: &mut Browser,
    method: Method,
    url: &str,
    body: &str,
) -> Result<StatusCode> {
    Ok(browser.fetch(method, url, body).await?.status)
}

#[tokio::test]
async fn somebody_signs_in_and_out_and_everything_of_theirs_follows() -> Result<()> {
    let kit = Kit::from_env()?;
    let Place { gateway, .. } = &start(&kit, &json!({}), "").await?;
    let origin = gateway.url("");
    let info = gateway.url("/api/user/info");
    let mut alice = Browser::new();

    // A page is sent to sign-in; scripts and programs are told.
    let page = alice.open(&gateway.url("/chat?x=1")).await?;
    assert_eq!(page.status, StatusCode::FOUND);
    let to = page.header("location").unwrap_or_default();
    assert_eq!(to, "/auth/login?return_to=%2Fchat%3Fx%3D1");
    let script = alice.fetch(Method::GET, &info, "").await?;
    assert_eq!(script.status, StatusCode::UNAUTHORIZED);
    assert_eq!(script.json()?["error"]["code"], "unauthorized");

    alice.sign_in_at(gateway, "sign-in-alice").await?;
    let first = alice.cookie(&origin, COOKIE)?.map(str::to_owned);
    assert!(first.is_some(), "she has a session");
    let said = alice
        .fetch(Method::GET, &info, "")
        .await?
        .expect_status(StatusCode::OK)?;
    assert_eq!(said.json()?["user_id"], "sign-in-alice");
    assert_eq!(said.json()?["email"], "sign-in-alice@example.com");
    assert_eq!(said.header("cache-control"), Some("no-store"));

    // d3_28: the cookie opens a socket only from our own page; d7_65: and nobody else's page signs her out.
    for foreign in ["https://evil.example", "null", &format!("{origin}.evil")] {
        assert!(socket(&alice, gateway, foreign).await.is_err(), "{foreign}");
    }
    let logout = gateway.url("/auth/logout");
    for from in ["https://evil.example", "http://localhost:1"] {
        let answer = alice.submit_from(from, &logout, String::new()).await?;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{from}");
    }
    let initialize = gateway.url("/api/openclaw/initialize");
    let foreign = alice
        .fetch_from("https://evil.example", Method::POST, &initialize, "{}")
        .await?;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert_eq!(foreign.header("access-control-allow-origin"), None, "d7_67");

    let mut tab = socket(&alice, gateway, &origin).await?;
    let password = alice
        .fetch(Method::GET, &gateway.url("/api/openclaw/credentials"), "")
        .await?
        .expect_status(StatusCode::OK)?
        .json()?;
    let password = json!({"password": password["password"]});
    let mut desktop = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    desktop.event("connect.challenge").await?;
    desktop.call("connect", connect_params(&password)).await?;

    // d7_64: signing in again is another session, and the one before it is over.
    alice.sign_in_at(gateway, "sign-in-alice").await?;
    let second = alice.cookie(&origin, COOKIE)?.map(str::to_owned);
    assert_ne!(first, second);
    ends("the session before", &mut tab).await;
    ends("what its password opened", &mut desktop).await;
    let mut thief = Browser::new();
    thief.set_cookie(&origin, COOKIE, first.as_deref().unwrap_or_default())?;
    assert_eq!(
        status(&mut thief, Method::GET, &info, "").await?,
        StatusCode::UNAUTHORIZED
    );

    // Her other tab follows within a second, and comes back as nobody.
    let mut tab = socket(&alice, gateway, &origin).await?;
    let out = alice.submit(&logout, String::new()).await?;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    let there = out.header("location").unwrap_or_default().to_owned();
    assert!(
        there.starts_with(&kit.issuer) && there.contains("id_token_hint="),
        "{there}"
    );
    ends("sign-out", &mut tab).await;
    assert_eq!(alice.cookie(&origin, COOKIE)?, None);
    thief.set_cookie(&origin, COOKIE, second.as_deref().unwrap_or_default())?;
    let mut gone = thief.socket(&origin, &gateway.ws_url("/ws")).await?;
    gone.event("connect.challenge").await?;
    let refused = gone.request("connect", connect_params(&json!({}))).await?;
    assert_eq!(refused["error"]["details"]["code"], "AUTH_TOKEN_MISSING");
    let mut late = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    late.event("connect.challenge").await?;
    let refused = late.request("connect", connect_params(&password)).await?;
    assert_eq!(
        refused["error"]["details"]["code"], "AUTH_UNAUTHORIZED",
        "the password too"
    );
    Ok(())
}

#[tokio::test]
async fn d7_65_what_the_issuer_ends_is_over_within_a_second() -> Result<()> {
    let kit = Kit::from_env()?;
    let Place {
        gateway, client, ..
    } = &start(&kit, &json!({}), "").await?;
    let origin = gateway.url("");
    let (mut bob, mut carol) = (Browser::new(), Browser::new());
    bob.sign_in_at(gateway, "sign-in-bob").await?;
    carol.sign_in_at(gateway, "sign-in-carol").await?;
    let mut of_bob = socket(&bob, gateway, &origin).await?;
    let mut of_carol = socket(&carol, gateway, &origin).await?;
    let told = kit.issuer().end_sessions("sign-in-bob").await?;
    let ours = told.iter().filter(|told| told.client_id == client.id);
    assert!(
        ours.clone().count() > 0 && ours.clone().all(|told| told.failed.is_none()),
        "{told:?}"
    );
    ends("back-channel logout", &mut of_bob).await;
    of_carol.call("health", json!({})).await?;

    // The same token once more, and others that are none.
    let url = gateway.url("/auth/backchannel-logout");
    for token in ["", "x", "a.b.c"] {
        let answer = bob.submit(&url, format!("logout_token={token}")).await?;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{token}");
    }
    of_carol.call("health", json!({})).await?;
    Ok(())
}

#[tokio::test]
async fn personal_access_tokens_live_as_long_as_they_are_wanted() -> Result<()> {
    let kit = Kit::from_env()?;
    let Place { gateway, .. } = &start(&kit, &json!({}), "").await?;
    let keys = gateway.url("/api/keys");
    let mut dave = Browser::new();
    dave.sign_in_at(gateway, "sign-in-dave").await?;
    for wrong in [
        "{}",
        r#"{"name":""}"#,
        r#"{"name":"x","scopes":["admin"]}"#,
        r#"{"name":"x","expiresInDays":0}"#,
        "[",
    ] {
        let answer = dave.fetch(Method::POST, &keys, wrong).await?;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let made = dave
        .fetch(Method::POST, &keys, r#"{"name":"laptop"}"#)
        .await?;
    let made = made.expect_status(StatusCode::CREATED)?.json()?;
    let read = dave
        .fetch(
            Method::POST,
            &keys,
            r#"{"name":"reader","scopes":["read"],"expiresInDays":1}"#,
        )
        .await?
        .json()?;
    let token = made["token"].as_str().unwrap_or_default().to_owned();
    let reader = read["token"].as_str().unwrap_or_default().to_owned();
    let listed = dave.fetch(Method::GET, &keys, "").await?;
    assert!(!listed.text().contains(&token), "it is shown once");
    assert!(!gateway.log()?.contains(&token));

    // It is dave's, in the header and in `connect`, and for what it was made for.
    let info = gateway.url("/api/user/info");
    let said = http::get(&info, Some(&token))
        .await?
        .expect_status(StatusCode::OK)?
        .json()?;
    assert_eq!(
        (&said["user_id"], &said["roles"]),
        (&json!("sign-in-dave"), &json!([]))
    );
    let mut ws = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    ws.event("connect.challenge").await?;
    ws.call("connect", connect_params(&json!({"token": token})))
        .await?;
    let mut not_for_that = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    not_for_that.event("connect.challenge").await?;
    let refused = not_for_that
        .request("connect", connect_params(&json!({"token": reader})))
        .await?;
    assert_eq!(refused["error"]["code"], "FORBIDDEN");
    // Nor for what opens sockets.
    let credentials = gateway.url("/api/openclaw/credentials");
    let answer = http::get(&credentials, Some(&reader)).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());
    let password = http::get(&credentials, Some(&token)).await?.json()?;
    let password = json!({"password": password["password"]});
    let mut by_password = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    by_password.event("connect.challenge").await?;
    by_password
        .call("connect", connect_params(&password))
        .await?;
    // It makes no others.
    let answer = http::post(&keys, Some(&token), &json!({"name": "child"})).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);

    let fleeting = kit.issuer().token("sign-in-dave").await?;
    let answer = http::post(&keys, Some(&fleeting), &json!({"name": "child"})).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());

    let listed = dave.fetch(Method::GET, &keys, "").await?.json()?;
    let listed = listed["keys"].as_array().expect("keys");
    let own = listed
        .iter()
        .find(|key| key["name"] == "laptop")
        .expect("it is listed");
    assert!(own["lastUsedAt"].is_string(), "{own}");

    // Nobody else revokes it; dave does, and its socket is closed.
    let one = format!("{keys}/{}", made["id"].as_str().unwrap_or_default());
    let mut erin = Browser::new();
    erin.sign_in_at(gateway, "sign-in-erin").await?;
    assert_eq!(
        status(&mut erin, Method::DELETE, &one, "").await?,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        status(&mut dave, Method::DELETE, &one, "").await?,
        StatusCode::NO_CONTENT
    );
    ends("revocation", &mut ws).await;
    ends("revocation, by its password", &mut by_password).await;
    let mut late = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    late.event("connect.challenge").await?;
    let refused = late.request("connect", connect_params(&password)).await?;
    assert_eq!(refused["ok"], false, "the key is gone: {refused}");
    let answer = http::get(&info, Some(&token)).await?;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn a_user_who_is_disabled_is_out_within_a_second_and_stays_out() -> Result<()> {
    let kit = Kit::from_env()?;
    let Place { gateway, .. } = &start(&kit, &json!({}), "").await?;
    let origin = gateway.url("");
    let (mut admin, mut frank) = (Browser::new(), Browser::new());
    admin.sign_in_at(gateway, "admin").await?;
    frank.sign_in_at(gateway, "sign-in-frank").await?;
    let token = kit.issuer().token("sign-in-frank").await?;
    let by_token = Person::with_token(token.clone(), gateway);
    let mut page = socket(&frank, gateway, &origin).await?;
    let mut program = by_token.open().await?;
    let disable = gateway.url("/api/admin/users/sign-in-frank/disable");
    assert_eq!(
        status(&mut frank, Method::POST, &disable, "").await?,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        status(&mut admin, Method::POST, &disable, "").await?,
        StatusCode::NO_CONTENT
    );
    ends("the page", &mut page).await;
    ends("the program", &mut program.ws).await;
    let info = gateway.url("/api/user/info");
    assert_eq!(
        http::get(&info, Some(&token)).await?.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        status(&mut frank, Method::GET, &info, "").await?,
        StatusCode::UNAUTHORIZED
    );
    assert!(
        frank.sign_in_at(gateway, "sign-in-frank").await.is_err(),
        "nor anew"
    );
    let enable = gateway.url("/api/admin/users/sign-in-frank/enable");
    assert_eq!(
        status(&mut admin, Method::POST, &enable, "").await?,
        StatusCode::NO_CONTENT
    );
    sleep(SECOND).await;
    http::get(&info, Some(&token))
        .await?
        .expect_status(StatusCode::OK)?;
    Ok(())
}

#[tokio::test]
async fn d3_36_who_is_ended_while_a_socket_is_opened_gets_none() -> Result<()> {
    let kit = Kit::from_env()?;
    let Place { gateway, .. } = &start(&kit, &json!({}), "").await?;
    let mut admin = Browser::new();
    admin.sign_in_at(gateway, "admin").await?;
    let token = kit.issuer().token("sign-in-gina").await?;
    let bearer = format!("Bearer {token}");
    let mut opening = Ws::connect(&gateway.ws_url("/ws"), &[("authorization", &bearer)]).await?;
    let sessions = gateway.url("/api/admin/users/sign-in-gina/sessions");
    assert!(
        status(&mut admin, Method::DELETE, &sessions, "")
            .await?
            .is_success()
    );
    sleep(SECOND).await;
    let connect = connect_params(&json!({}));
    opening.start("connect", connect).await?;
    let (code, _) = opening.closed().await?;
    assert_eq!(code, 4401);
    // Their token is good for another.
    Person::with_token(token, gateway).open().await?;
    Ok(())
}

#[tokio::test]
async fn d3_35_a_socket_is_renewed_in_band_or_ends_with_its_token() -> Result<()> {
    let kit = Kit::from_env()?;
    let Place { gateway, .. } = &start(&kit, &json!({}), "").await?;
    // An instance that has much to do takes seconds to let two sockets in.
    let short = Duration::from_secs(16);
    let token = |account: &'static str, lifetime| {
        let issuer = kit.issuer();
        async move {
            issuer
                .token_for(account, gateway_tests::issuer::AUDIENCE, lifetime)
                .await
        }
    };
    let mut stays = Person::with_token(token("sign-in-grace", short).await?, gateway)
        .open()
        .await?;
    let mut goes = Person::with_token(token("sign-in-grace", short).await?, gateway)
        .open()
        .await?;
    let others = token("sign-in-heidi", Duration::from_secs(600)).await?;
    for wrong in [json!({"token": others}), json!({"token": "x"}), json!({})] {
        let refused = stays.ws.request("gateway.renew", wrong).await?;
        assert_eq!(refused["ok"], false);
        assert!(!refused.to_string().contains(&others));
    }
    let longer = token("sign-in-grace", Duration::from_secs(600)).await?;
    let renewed = stays
        .ws
        .call("gateway.renew", json!({"token": longer}))
        .await?;
    assert!(renewed["expiresAt"].is_string(), "{renewed}");
    let (code, _) = timeout(3 * short, goes.ws.closed())
        .await
        .map_err(|_| Error::Late(3 * short, "the socket".to_owned()))??;
    assert_eq!(code, 4401);
    stays.ws.call("health", json!({})).await?;
    Ok(())
}

#[tokio::test]
async fn two_gateways_with_one_store_are_one_for_those_who_sign_in() -> Result<()> {
    let kit = Kit::from_env()?;
    for store in [kit.redis.clone(), kit.database().await?] {
        let more = format!(
            "\n[session]\nstore_url = \"{store}\"\nkey = \"{}\"\n",
            "0123456789abcdef".repeat(4)
        );
        // Access tokens are over soon: the next look-up of the session refreshes them.
        let Place {
            gateway: one,
            client,
            ..
        } = &start(&kit, &json!({"access_token_ttl": 6}), &more).await?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = one.config().replica(dir.path())?;
        let two = &Gateway::start(config, dir.path()).await?;

        let origin = one.url("");
        let mut ivan = Browser::new();
        ivan.sign_in_at(one, "sign-in-ivan").await?;
        ivan.share_cookies(&origin, &two.url(""))?;
        sleep(6 * SECOND).await;

        let before = kit
            .issuer()
            .count_grants(&client.id, "refresh_token")
            .await?;
        let requests = (0..100).map(|n| {
            let url = [one, two][n % 2].url("/api/user/info");
            let mut browser = ivan.clone();
            tokio::spawn(async move { browser.fetch(Method::GET, &url, "").await })
        });
        for answer in requests.collect::<Vec<_>>() {
            let answer = answer.await.expect("a task that does not panic")?;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        let refreshes = kit
            .issuer()
            .count_grants(&client.id, "refresh_token")
            .await?
            - before;
        assert_eq!(refreshes, 1, "a hundred requests at two gateways, {store}");

        // What ends at one ends at the other.
        let mut there = socket(&ivan, two, &origin).await?;
        let logout = one.url("/auth/logout");
        assert_eq!(
            ivan.submit(&logout, String::new()).await?.status,
            StatusCode::SEE_OTHER
        );
        ends("sign-out at the other gateway", &mut there).await;
        let info = two.url("/api/user/info");
        ivan.share_cookies(&origin, &two.url(""))?;
        assert_eq!(
            status(&mut ivan, Method::GET, &info, "").await?,
            StatusCode::UNAUTHORIZED
        );

        let token = kit.issuer().token("sign-in-judy").await?;
        let mut judy = Person::with_token(token.clone(), two).open().await?;
        let mut admin = Browser::new();
        admin.sign_in_at(one, "admin").await?;
        let disable = one.url("/api/admin/users/sign-in-judy/disable");
        assert_eq!(
            status(&mut admin, Method::POST, &disable, "").await?,
            StatusCode::NO_CONTENT
        );
        ends("disabled at the other gateway", &mut judy.ws).await;
        assert_eq!(
            http::get(&info, Some(&token)).await?.status,
            StatusCode::UNAUTHORIZED
        );
        let enable = one.url("/api/admin/users/sign-in-judy/enable");
        assert_eq!(
            status(&mut admin, Method::POST, &enable, "").await?,
            StatusCode::NO_CONTENT
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_provider_that_is_down_says_so_and_ends_no_session() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut issuer = gateway_tests::issuer::Issuer::start(kit.install.clone(), dir.path()).await?;
    let mut own = kit.clone();
    own.issuer = issuer.url();
    let Place { gateway, .. } = &start(&own, &json!({"access_token_ttl": 2}), "").await?;
    let mut kim = Browser::new();
    kim.sign_in_at(gateway, "sign-in-kim").await?;
    issuer.stop().await?;
    sleep(3 * SECOND).await;
    let info = gateway.url("/api/user/info");
    assert_eq!(
        status(&mut kim, Method::GET, &info, "").await?,
        StatusCode::OK
    );
    let mut other = Browser::new();
    let page = other.open(&gateway.url("/auth/login")).await?;
    // Where it was found it is known still, so the browser is sent there; whoever comes back with a code is told.
    assert!(matches!(
        page.status,
        StatusCode::SEE_OTHER | StatusCode::SERVICE_UNAVAILABLE
    ));
    issuer.start_again().await?;
    Ok(())
}

#[tokio::test]
async fn two_people_work_in_openclaws_own_page_and_see_nothing_of_each_other() -> Result<()> {
    let kit = Kit::from_env()?;
    let Place {
        _dir: dir, gateway, ..
    } = &start(&kit, &json!({}), "").await?;
    let (alice, bob) = (mark("alice")?, mark("bob")?);
    let environment = [
        ("GATEWAY_URL", gateway.url("")),
        ("ALICE", alice.clone()),
        ("BOB", bob.clone()),
    ];
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let limit = Duration::from_secs(480);
    gateway_tests::chromium::run_script(
        &kit.install,
        "browser-control-ui",
        &environment,
        dir.path(),
        limit,
    )
    .await?;

    // What she attached has come to the model, whole, and nobody else's model.
    let sent = kit.provider().calls_about(&alice).await?;
    for attached in ["what the note says", "(text/plain)", "(image/png)"] {
        let mut sent = sent.iter();
        assert!(
            sent.any(|call| call.last_user.contains(attached)),
            "{attached}"
        );
    }
    for call in kit.provider().calls_about(&bob).await? {
        assert!(!call.last_user.contains("what the note says"));
    }

    // What they did is theirs, and counted.
    for (account, runs) in [(alice, 7), (bob, 2)] {
        let person = Person::sign_in(&kit, &account, gateway).await?;
        let quota = person.get("/api/quota").await?;
        let calls = quota["limits"].as_array().into_iter().flatten();
        let used = calls
            .filter(|limit| limit["dimension"] == "calls")
            .find_map(|limit| limit["used"].as_u64());
        assert_eq!(used, Some(runs), "{account}: {quota}");
    }
    Ok(())
}

#[tokio::test]
async fn openclaws_npm_client_works_with_a_token_in_connect() -> Result<()> {
    let kit = Kit::from_env()?;
    let Place {
        _dir: dir, gateway, ..
    } = &start(&kit, &json!({}), "").await?;
    let token = kit.issuer().token(&mark("npm")?).await?;
    let output = dir.path().join("npm.log");
    let mut command = kit.install.command();
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/node/gateway-client.mjs"
        ))
        .env("MODULES", &kit.install.modules)
        .env("GATEWAY_WS", gateway.ws_url("/ws"))
        .env("GATEWAY_TOKEN", token)
        .env("MESSAGE", "hello from npm");
    let mut client = gateway_tests::process::Process::spawn("the npm client", command, output)?;
    client.succeed(Duration::from_secs(60)).await
}

/// A name that nobody else has.
fn mark(name: &str) -> Result<String> {
    Ok(format!("{name}-{}", gateway_tests::secret::mark()?))
}
