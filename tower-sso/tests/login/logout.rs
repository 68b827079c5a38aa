//! Signing out.

use http::Method;
use serde_json::{Value, json};
use tower_sso::login::Provider;

use crate::support::*;

const FROM_HERE: [(&str, &str); 2] = [
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
];

async fn signed_in(setup: &Setup, server: &Server) -> Browser {
    let mut browser = Browser::default();
    browser.sign_in(setup, server, "").await;
    assert!(server.identity(&browser).await.is_some());
    browser
}

#[tokio::test]
async fn somebody_signs_out_here_and_at_the_provider() {
    let setup = Setup::new();
    let server = setup.server();
    let mut browser = signed_in(&setup, &server).await;
    let before = browser.clone();
    let page = browser
        .send(&server, Method::POST, "/auth/logout", &FROM_HERE, "")
        .await;
    assert_eq!(page.status, 303);
    assert!(page.location().starts_with("https://idp.example/logout?"));
    assert_eq!(
        page.parameter("post_logout_redirect_uri").unwrap(),
        "https://app.example.com/auth/signed-out"
    );
    assert_eq!(page.parameter("client_id").unwrap(), CLIENT);
    assert_eq!(
        page.parameter("id_token_hint")
            .unwrap()
            .matches('.')
            .count(),
        2
    );
    assert_eq!(browser.session(), None, "the cookie is taken away");
    assert!(
        server.identity(&before).await.is_none(),
        "and the session is over"
    );

    let page = browser.get(&server, "/auth/signed-out").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("signed out") && page.body.contains("href=\"/auth/login\""));
}

#[tokio::test]
async fn a_script_is_told_where_to_go() {
    let setup = Setup::new();
    let server = setup.server();
    for headers in [
        [("origin", ORIGIN), ("accept", "application/json")],
        [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "cors"),
        ],
    ] {
        let mut browser = signed_in(&setup, &server).await;
        let page = browser
            .send(&server, Method::POST, "/auth/logout", &headers, "")
            .await;
        assert_eq!(page.status, 200);
        assert_eq!(page.headers["content-type"], "application/json");
        let body: Value = serde_json::from_str(&page.body).unwrap();
        let target = body["redirect"].as_str().unwrap();
        assert!(target.starts_with("https://idp.example/logout?"));
        assert_eq!(browser.session(), None);
    }
}

#[tokio::test]
async fn d7_65_nobody_is_signed_out_from_elsewhere() {
    let setup = Setup::new();
    let server = setup.server_with([registration()], &[1], |login| {
        login.allow_origin("https://spa.example.com").unwrap()
    });
    let browser = signed_in(&setup, &server).await;
    for headers in [
        &[][..],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "https://app.example.com.evil.example")],
        &[("origin", "http://app.example.com")],
        &[("origin", "https://app.example.com:8443")],
        &[("origin", "https://app.example.com/")],
        &[("origin", "")],
        &[("origin", ORIGIN), ("origin", ORIGIN)],
        &[("origin", ORIGIN), ("origin", "https://evil.example")],
        &[("origin", ORIGIN), ("sec-fetch-site", "cross-site")],
        &[
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "same-origin"),
        ],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "null"), ("sec-fetch-site", "cross-site")],
        &[("referer", "https://app.example.com/")],
    ] {
        let page = browser
            .clone()
            .send(&server, Method::POST, "/auth/logout", headers, "")
            .await;
        assert_eq!(page.status, 403, "{headers:?}");
        assert!(!page.headers.contains_key("set-cookie"), "{headers:?}");
        assert!(server.identity(&browser).await.is_some(), "{headers:?}");
    }
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        let page = browser
            .clone()
            .send(&server, method, "/auth/logout", &FROM_HERE, "")
            .await;
        assert_eq!(page.status, 405);
        assert!(server.identity(&browser).await.is_some());
    }
    for headers in [
        &[("origin", ORIGIN)][..],
        &[
            ("origin", "https://spa.example.com"),
            ("sec-fetch-site", "same-site"),
        ],
        &[("origin", ORIGIN), ("sec-fetch-site", "same-origin")],
        // A page with `no-referrer`.
        &[("origin", "null"), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "same-origin")],
    ] {
        let mut browser = signed_in(&setup, &server).await;
        let page = browser
            .send(&server, Method::POST, "/auth/logout", headers, "")
            .await;
        assert_eq!(page.status, 303, "{headers:?}");
    }
}

#[tokio::test]
async fn who_is_not_signed_in_is_signed_out_all_the_same() {
    let setup = Setup::new();
    let server = setup.server();
    for cookie in [None, Some("made-up")] {
        let mut browser = Browser::default();
        if let Some(cookie) = cookie {
            browser
                .cookies
                .insert("__Host-session".to_owned(), cookie.to_owned());
        }
        let page = browser
            .send(&server, Method::POST, "/auth/logout", &FROM_HERE, "")
            .await;
        assert_eq!(page.status, 303);
        assert_eq!(page.location(), "https://app.example.com/auth/signed-out");
        assert_eq!(browser.session(), None);
    }
    assert!(setup.provider.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_the_provider_it_is_signed_out_here() {
    for fault in [Fault::Error, Fault::Never] {
        let setup = Setup::new();
        let mut browser = signed_in(&setup, &setup.server()).await;
        setup
            .provider
            .fail("/.well-known/openid-configuration", fault);
        // Another server, which does not know the provider's addresses yet.
        let server = setup.server();
        let before = browser.clone();
        let page = browser
            .send(&server, Method::POST, "/auth/logout", &FROM_HERE, "")
            .await;
        assert_eq!(page.location(), "https://app.example.com/auth/signed-out");
        assert!(server.identity(&before).await.is_none());
    }
}

#[tokio::test]
async fn a_provider_without_an_address_for_it_is_left_alone() {
    let setup = Setup::new();
    setup.provider.state().metadata = json!({"end_session_endpoint": null});
    let server = setup.server_with([registration()], &[1], |login| {
        login.after_sign_out("/bye").unwrap()
    });
    let mut browser = signed_in(&setup, &server).await;
    let page = browser
        .send(&server, Method::POST, "/auth/logout", &FROM_HERE, "")
        .await;
    assert_eq!(page.location(), "https://app.example.com/bye");
}

#[tokio::test]
async fn auth0_has_an_address_of_its_own_where_it_names_none() {
    let mut setup = Setup::new();
    setup.provider = FakeProvider::new("https://idp.example/", &setup.clock);
    setup.provider.state().metadata = json!({
        "authorization_endpoint": "https://idp.example/authorize",
        "token_endpoint": "https://idp.example/token",
        "jwks_uri": "https://idp.example/keys",
        "userinfo_endpoint": "https://idp.example/userinfo",
        "end_session_endpoint": null,
    });
    let provider = Provider::auth0("idp.example").client(CLIENT, SECRET);
    let server = setup.server_with([provider], &[1], |login| login);
    let mut browser = Browser::default();
    let location = browser.begin(&server, "").await;
    let callback = {
        let issuer = std::mem::replace(&mut setup.provider.state().issuer, ISSUER.to_owned());
        let callback = setup.provider.authorize(&location);
        setup.provider.state().issuer = issuer;
        with(&callback, "iss", Some("https://idp.example/"))
    };
    assert_eq!(browser.get(&server, callback.as_str()).await.status, 303);
    let page = browser
        .send(&server, Method::POST, "/auth/logout", &FROM_HERE, "")
        .await;
    assert_eq!(
        page.location(),
        "https://idp.example/v2/logout?client_id=openclaw&\
         returnTo=https%3A%2F%2Fapp.example.com%2Fauth%2Fsigned-out"
    );
}
