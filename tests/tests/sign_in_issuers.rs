//! Other issuers, other forms of tokens and other origins than those of the first one: a second implementation that signs
//! people in, opaque tokens that are introspected, a page of another origin.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Instant;

use ::http::{Method, Request, StatusCode};
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    other_issuer::OtherIssuer,
    person::{Person, connect_params},
    port::free_address,
    process::Process,
    ws::Ws,
};
use serde_json::{Value, json};

/// What a session cookie is called.
const COOKIE: &str = "__Host-session";

/// Begins to sign in at the other issuer.
const LOGIN: &str = "/auth/login?provider=other&return_to=%2Fapi%2Fuser%2Finfo";

/// The other issuer, for a gateway's configuration.
fn second_issuer(other: &OtherIssuer) -> String {
    format!(
        "[[issuer]]\nalias = \"other\"\nurl = \"{}\"\naudience = \"openclaw\"\nclient_id = \"gateway\"\n\
         client_secret = \"any\"\n",
        other.url()
    )
}

/// A gateway with this beside the first issuer.
async fn gateway(kit: &Kit, more: &str) -> Result<(tempfile::TempDir, Gateway)> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(kit, dir.path())?;
    config.text = config
        .text
        .replacen("\n[roles]", &format!("\n{more}\n[roles]"), 1);
    let gateway = Gateway::start(config, dir.path()).await?;
    Ok((dir, gateway))
}

/// Goes where redirects lead, to the issuer and back; the last answer.
async fn follow(browser: &mut Browser, start: &str) -> Result<http::Response> {
    let mut url = start.to_owned();
    for _ in 0..10 {
        let answer = browser.open(&url).await?;
        match answer.header("location") {
            Some(next) if next.starts_with('/') => {
                let after_scheme = url.find("://").map_or(0, |at| at + 3);
                let host = url[after_scheme..]
                    .find('/')
                    .map_or(url.len(), |at| at + after_scheme);
                url = format!("{}{next}", &url[..host]);
            }
            Some(next) => url = next.to_owned(),
            None => return Ok(answer),
        }
    }
    browser.open(&url).await
}

#[tokio::test]
async fn another_implementation_signs_people_in_and_what_it_says_wrongly_opens_nothing()
-> Result<()> {
    let kit = Kit::from_env()?;
    let issuer_dir = tempfile::tempdir().expect("a temporary directory");
    let other = OtherIssuer::start(&kit.install, issuer_dir.path()).await?;
    let second = second_issuer(&other);
    let (_dir, gateway) = gateway(&kit, &second).await?;
    let info = gateway.url("/api/user/info");
    let login = gateway.url(LOGIN);
    let origin = gateway.url("");

    let mut john = Browser::new();
    let shown = follow(&mut john, &login).await?.json()?;
    assert_eq!(shown["user_id"], "other|johndoe", "{shown}");
    assert_eq!(shown["provider"], "other");

    // Its access tokens are taken as well, for who they are.
    let claims = json!({
        "iss": other.url(), "aud": "openclaw", "sub": "johndoe", "exp": 4_000_000_000_u64, "iat": 1,
    });
    let token = other
        .mint("ES256", &json!({"typ": "at+jwt"}), &claims)
        .await?;
    let said = http::get(&info, Some(&token))
        .await?
        .expect_status(StatusCode::OK)?
        .json()?;
    assert_eq!(said["user_id"], "other|johndoe");

    // What is not an ID token of this sign-in opens no session, and neither does an answer in another's name.
    for (what, patch) in [
        ("id_token", json!({"nonce": "another"})),
        ("id_token", json!({"aud": "somebody"})),
        ("id_token", json!({"iss": kit.issuer})),
        ("id_token", json!({"exp": 1})),
        ("id_token", json!({"sub": ""})),
        ("redirect", json!({"iss": kit.issuer})),
        ("redirect", json!({"state": "another"})),
        ("redirect", json!({"code": "another"})),
        ("token", json!({"id_token": null})),
    ] {
        other.change(what, &patch).await?;
        let mut nobody = Browser::new();
        let answer = follow(&mut nobody, &login).await?;
        assert!(
            answer.status.is_client_error() || answer.status.is_server_error(),
            "{what} {patch}: {}",
            answer.status
        );
        assert_eq!(nobody.cookie(&origin, COOKIE)?, None, "{what} {patch}");
        other.change(what, &json!({})).await?;
    }
    other.fail("token", 503, &json!({})).await?;
    let answer = follow(&mut Browser::new(), &login).await?;
    assert!(
        answer.text().contains("other"),
        "who is down is said: {}",
        answer.text()
    );
    Ok(())
}

#[tokio::test]
async fn somebody_of_another_issuer_is_who_an_administrator_says_they_are() -> Result<()> {
    let kit = Kit::from_env()?;
    let issuer_dir = tempfile::tempdir().expect("a temporary directory");
    let other = OtherIssuer::start(&kit.install, issuer_dir.path()).await?;
    let second = second_issuer(&other);
    let (_dir, gateway) = gateway(&kit, &second).await?;
    let info = gateway.url("/api/user/info");
    let login = gateway.url(LOGIN);
    let (mut quinn, mut admin, mut john) = (Browser::new(), Browser::new(), Browser::new());
    for (browser, account) in [(&mut quinn, "sign-in-quinn"), (&mut admin, "admin")] {
        let start = LOGIN.replace("=other", "=corp");
        browser
            .sign_in(&gateway.url(&start), account, &info)
            .await?;
    }
    let choice = Browser::new().open(&gateway.url("/auth/login")).await?;
    for alias in ["corp", "other"] {
        assert!(choice.text().contains(&format!("Sign in with {alias}")));
    }

    // What the issuer says of them is kept, and what it says anew.
    for email in ["john@example.com", "johnny@example.com"] {
        let said = json!({"email": email, "email_verified": true, "name": "John"});
        other.change("id_token", &said).await?;
        let shown = follow(&mut john, &login).await?.json()?;
        assert_eq!(shown["user_id"], "other|johndoe", "{shown}");
        assert_eq!(shown["email"], email);
    }

    let identities = gateway.url("/api/admin/users/sign-in-quinn/identities");
    let link = r#"{"provider":"other","subject":"johndoe"}"#;
    let answer = quinn.fetch(Method::POST, &identities, link).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    for wrong in [
        r#"{"provider":"corp","subject":"johndoe"}"#,
        r#"{"provider":"other"}"#,
        "{}",
    ] {
        let answer = admin.fetch(Method::POST, &identities, wrong).await?;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let nobody = gateway.url("/api/admin/users/nobody/identities");
    let answer = admin.fetch(Method::POST, &nobody, link).await?;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let answer = admin.fetch(Method::POST, &identities, link).await?;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);

    // Who they were ends; from now on they are quinn, by their tokens too.
    let was = john.fetch(Method::GET, &info, "").await?;
    assert_eq!(was.status, StatusCode::UNAUTHORIZED);
    let shown = follow(&mut john, &login).await?.json()?;
    assert_eq!(shown["user_id"], "sign-in-quinn", "{shown}");
    let claims = json!({
        "iss": other.url(), "aud": "openclaw", "sub": "johndoe", "exp": 4_000_000_000_u64, "iat": 1,
    });
    let token = other.mint("RS256", &json!({}), &claims).await?;
    let said = http::get(&info, Some(&token)).await?.json()?;
    assert_eq!(said["user_id"], "sign-in-quinn");
    Ok(())
}

#[tokio::test]
async fn an_opaque_token_is_asked_about_and_ends_when_its_issuer_ends_it() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(&kit, dir.path())?;
    let url = format!("http://{}", config.public);
    let issuer = kit.issuer();
    let client = issuer
        .register(&url, &json!({"access_token_format": "opaque"}))
        .await?;
    let lines = config.text.lines().map(|line| match line {
        line if line.starts_with("client_id = ") => {
            format!("client_id = \"{}\"\nintrospection = true", client.id)
        }
        line if line.starts_with("client_secret_file = ") => {
            format!("client_secret = \"{}\"", client.secret)
        }
        line if line.starts_with("token_type = ") => String::new(),
        line => line.to_owned(),
    });
    config.text = lines.collect::<Vec<_>>().join("\n");
    let gateway = Gateway::start(config, dir.path()).await?;

    let back = format!("{url}/auth/callback");
    let tokens = issuer
        .tokens(&mut Browser::new(), &client, &back, "sign-in-olga")
        .await?;
    let token = tokens["access_token"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(!token.contains('.'), "it is opaque");
    let info = gateway.url("/api/user/info");
    let before = issuer.count("/token/introspection").await?;
    for _ in 0..10 {
        let said = http::get(&info, Some(&token))
            .await?
            .expect_status(StatusCode::OK)?
            .json()?;
        assert_eq!(said["user_id"], "sign-in-olga");
    }
    assert_eq!(issuer.count("/token/introspection").await? - before, 1);
    let mut olga = Person::with_token(token.clone(), &gateway).open().await?;
    for wrong in ["nothing", "mF_9.B5f-4.1JqM"] {
        let answer = http::get(&info, Some(wrong)).await?;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong}");
    }

    // d1_20: whoever makes tokens up costs the issuer little, on whatever way they come, and keeps nobody out.
    let begun = Instant::now();
    for n in 0..500 {
        let answer = http::get(&info, Some(&format!("made-up-{n}"))).await?;
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE];
        assert!(refused.contains(&answer.status), "{}", answer.status);
    }
    let mut stranger = Ws::connect(&gateway.ws_url("/ws"), &[]).await?;
    stranger.event("connect.challenge").await?;
    let made_up = connect_params(&json!({"token": "made-up"}));
    let refused = stranger.request("connect", made_up).await?;
    assert_eq!(refused["ok"], false, "{refused}");
    for n in 0..100 {
        let made_up = json!({"token": format!("made-up-renewal-{n}")});
        let refused = olga.ws.request("gateway.renew", made_up).await?;
        assert_eq!(refused["ok"], false, "{refused}");
    }
    let asked = issuer.count("/token/introspection").await? - before;
    // Sixteen in each ten seconds that have begun, and olga's.
    let most = 1 + 16 * (begun.elapsed().as_secs() / 10 + 2);
    let asked = u64::try_from(asked).expect("a number");
    assert!(asked <= most, "{asked} questions");
    let said = http::get(&info, Some(&token)).await?;
    assert_eq!(said.status, StatusCode::OK, "who is known goes on");
    Ok(())
}

#[tokio::test]
async fn d7_67_a_page_of_an_origin_that_is_allowed_may_read_and_no_other() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config::new(&kit, dir.path())?;
    let app = "https://app.example.com";
    let line = format!("[server]\nallowed_origins = [\"{app}\"]\n");
    config.text = config.text.replacen("[server]\n", &line, 1);
    let gateway = Gateway::start(config, dir.path()).await?;
    let info = gateway.url("/api/user/info");
    let mut paula = Browser::new();
    paula.sign_in_at(&gateway, "sign-in-paula").await?;

    let header = |answer: &http::Response, name: &str| answer.header(name).map(str::to_owned);
    let allowed = paula.fetch_from(app, Method::GET, &info, "").await?;
    assert_eq!(allowed.status, StatusCode::OK);
    assert_eq!(
        header(&allowed, "access-control-allow-origin").as_deref(),
        Some(app)
    );
    assert_eq!(
        header(&allowed, "access-control-allow-credentials").as_deref(),
        Some("true")
    );
    let evil = "https://app.example.com.evil.example";
    for other in [evil, "http://app.example.com", "null"] {
        let answer = paula.fetch_from(other, Method::GET, &info, "").await?;
        assert_eq!(
            header(&answer, "access-control-allow-origin"),
            None,
            "{other}"
        );
    }
    // A change is refused before anything is done; of the allowed origin it is not.
    let keys = gateway.url("/api/keys");
    let made = r#"{"name":"x"}"#;
    let answer = paula.fetch_from(evil, Method::POST, &keys, made).await?;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = paula.fetch_from(app, Method::POST, &keys, made).await?;
    assert_eq!(answer.status, StatusCode::CREATED);

    for path in ["/api/keys", "/auth/logout", "/v1/responses"] {
        for (origin, may) in [(app, Some(app)), (evil, None)] {
            let asked = Request::builder()
                .method(Method::OPTIONS)
                .uri(gateway.url(path))
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "content-type");
            let preflight = http::send(asked, String::new()).await?;
            let allowed = header(&preflight, "access-control-allow-origin");
            assert_eq!(allowed.as_deref(), may, "{origin} at {path}");
        }
    }

    let ws = gateway.ws_url("/ws");
    paula.socket(app, &ws).await?;
    assert!(paula.socket(evil, &ws).await.is_err());
    let shown: Value = allowed.json()?;
    assert_eq!(shown["user_id"], "sign-in-paula");
    Ok(())
}

#[tokio::test]
async fn d7_67_browsers_are_told_to_come_by_tls_where_there_is_tls() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::new(&kit, dir.path())?;
    let health = format!("http://{}/health", config.public);
    for (scheme, told) in [("http", None), ("https", Some("max-age=31536000"))] {
        let mut config = config.clone();
        let public_url = format!("public_url = \"{scheme}://");
        config.text = config
            .text
            .replacen("public_url = \"http://", &public_url, 1);
        let mut gateway = Gateway::start(config, dir.path()).await?;
        let answer = http::get(&health, None).await?;
        assert_eq!(answer.header("strict-transport-security"), told, "{scheme}");
        gateway.kill().await?;
    }
    Ok(())
}

/// The issuer itself would do, and is not believed.
#[tokio::test]
async fn d7_68_an_issuer_whose_certificate_nobody_trusts_is_not_listened_to() -> Result<()> {
    let kit = Kit::from_env()?;
    let files = tempfile::tempdir().expect("a temporary directory");
    let address = free_address()?;
    let url = format!("https://{address}");
    let discovery = json!({
        "issuer": url, "authorization_endpoint": format!("{url}/auth"), "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"), "response_types_supported": ["code"],
        "id_token_signing_alg_values_supported": ["RS256"], "subject_types_supported": ["public"],
    });
    let well_known = files.path().join(".well-known");
    std::fs::create_dir(&well_known).expect("a directory");
    // Served as it is, with its head.
    let answer = format!("HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{discovery}");
    std::fs::write(well_known.join("openid-configuration"), answer).expect("a file");
    let openssl = |arguments: &str| {
        let mut command = tokio::process::Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(files.path());
        command
    };
    let mut made = openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out certificate.pem -days 1 \
         -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1",
    );
    made.stderr(std::process::Stdio::null());
    let made = made.status().await.expect("openssl");
    assert!(made.success());
    let serve = format!("s_server -accept {address} -cert certificate.pem -key key.pem -HTTP");
    let log = files.path().join("server.log");
    let _server = Process::spawn("the server", openssl(&serve), log)?;

    let second = format!(
        "[[issuer]]\nalias = \"other\"\nurl = \"{url}\"\naudience = \"openclaw\"\nclient_id = \"gateway\"\n\
         client_secret = \"any\"\n"
    );
    let (_dir, gateway) = gateway(&kit, &second).await?;
    let answer = Browser::new().open(&gateway.url(LOGIN)).await?;
    assert_eq!(
        answer.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        answer.text()
    );
    assert!(
        gateway.log()?.contains("certificate"),
        "the operator reads why"
    );
    Ok(())
}
