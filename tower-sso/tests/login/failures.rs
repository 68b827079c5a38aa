//! Providers and stores that are slow, down, or answer nonsense; and the form of answers.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde_json::json;
use tokio::time::Instant;
use tower_sso::{
    AnswerFuture,
    session::{End, Ended, Key, Kind, Lease, Record, Store, StoreError, StoreFuture},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn d7_66_a_provider_that_is_slow_or_down_costs_a_page_and_ten_seconds() {
    for fault in [
        Fault::Never,
        Fault::Error,
        Fault::Answer(500, "canary"),
        Fault::Answer(200, "<html>"),
    ] {
        for path in [
            "/.well-known/openid-configuration",
            "/token",
            "/keys",
            "/userinfo",
        ] {
            let setup = Setup::new();
            let server = setup.server();
            setup.provider.state().claims = json!({"email": null});
            let mut browser = Browser::default();
            let begun = Instant::now();
            let page = if path.starts_with("/.well") {
                setup.provider.fail(path, fault.clone());
                browser.get(&server, "/auth/login?return_to=/a").await
            } else {
                let location = browser.begin(&server, "?return_to=/a").await;
                let callback = setup.provider.authorize(&location);
                setup.provider.fail(path, fault.clone());
                browser.get(&server, callback.as_str()).await
            };
            let what = format!("{path} {fault:?}");
            let is_nonsense = path == "/userinfo" && matches!(fault, Fault::Answer(200, _));
            let wanted = if is_nonsense { 400 } else { 503 };
            assert_eq!(page.status, wanted, "{what}: {}", page.body);
            assert!(begun.elapsed() <= Duration::from_secs(10), "{what}");
            if wanted == 503 {
                assert_eq!(page.headers["retry-after"], "10", "{what}");
                assert!(
                    page.body.contains("does not answer"),
                    "{what}: {}",
                    page.body
                );
            }
            assert!(
                page.body
                    .contains("return_to=https%3A%2F%2Fapp.example.com%2Fa")
            );
            assert!(!page.body.contains("canary"));
            assert_eq!(browser.session(), None, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d7_66_a_provider_that_is_back_is_asked_again() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server();
    setup
        .provider
        .fail("/.well-known/openid-configuration", Fault::Error);
    for _ in 0..20 {
        assert_eq!(browser.get(&server, "/auth/login").await.status, 503);
    }
    assert_eq!(
        setup.provider.asked().len(),
        1,
        "it is left alone for a second"
    );
    setup.provider.heal();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(browser.sign_in(&setup, &server, "").await.status, 303);
}

#[tokio::test(start_paused = true)]
async fn d7_66_many_who_begin_at_once_ask_for_the_metadata_once() {
    let setup = Setup::new();
    let server = setup.server();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let server = server.clone();
        waiting.spawn(async move { Browser::default().get(&server, "/auth/login").await.status });
    }
    assert!(waiting.join_all().await.iter().all(|status| *status == 303));
    assert_eq!(
        setup.provider.asked(),
        ["/.well-known/openid-configuration"]
    );
}

#[tokio::test(start_paused = true)]
async fn d7_66_old_metadata_serve_while_there_are_no_new_ones() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server();
    browser.begin(&server, "").await;
    setup.provider.asked();
    tokio::time::advance(Duration::from_secs(3601)).await;
    setup
        .provider
        .fail("/.well-known/openid-configuration", Fault::Never);
    let waits = browser.begin(&server, "");
    assert!(waits.await.starts_with("https://idp.example/authorize?"));
    browser.begin(&server, "").await;
    assert_eq!(
        setup.provider.asked().len(),
        1,
        "asked once, then left alone"
    );
    setup.provider.heal();
    tokio::time::advance(Duration::from_secs(30)).await;
    browser.begin(&server, "").await;
    assert_eq!(setup.provider.asked().len(), 1, "and again after a while");
}

#[tokio::test(start_paused = true)]
async fn d7_66_callbacks_under_load_wait_for_room_and_none_is_lost() {
    let setup = Setup::new();
    let server = setup.server();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let mut browser = Browser::default();
        let location = browser.begin(&server, "").await;
        let callback = setup.provider.authorize(&location);
        let server = server.clone();
        waiting.spawn(async move { browser.get(&server, callback.as_str()).await.status });
    }
    assert!(waiting.join_all().await.iter().all(|status| *status == 303));
}

#[tokio::test(start_paused = true)]
async fn d7_66_while_all_room_is_taken_a_sign_in_is_put_off_but_not_spent() {
    let setup = Setup::new();
    let server = setup.server();
    setup.provider.fail("/token", Fault::Never);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut browser = Browser::default();
        let location = browser.begin(&server, "").await;
        let callback = setup.provider.authorize(&location);
        let server = server.clone();
        waiting.spawn(async move { browser.get(&server, callback.as_str()).await.status });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut late = Browser::default();
    let location = late.begin(&server, "").await;
    let callback = setup.provider.authorize(&location);
    setup.provider.heal();
    // Room comes when the others give up, and then it is too late for this one.
    let page = late.get(&server, callback.as_str()).await;
    assert_eq!(page.status, 503);
    assert_eq!(late.pending(), 1, "it can be tried again as it is");
    let page = late.get(&server, callback.as_str()).await;
    assert_eq!(page.status, 303);
    assert!(waiting.join_all().await.iter().all(|status| *status == 503));
}

#[tokio::test]
async fn d7_62_codes_and_clients_the_provider_refuses_open_no_session() {
    for (fault, status) in [
        (
            Fault::Answer(
                400,
                r#"{"error":"invalid_grant","error_description":"canary"}"#,
            ),
            400,
        ),
        (
            Fault::Answer(200, r#"{"error":"bad_verification_code"}"#),
            400,
        ),
        (Fault::Answer(401, r#"{"error":"invalid_client"}"#), 502),
        (Fault::Answer(403, "canary"), 502),
        (Fault::Answer(429, "canary"), 503),
        (
            Fault::Answer(200, r#"{"access_token":"a","token_type":"mac"}"#),
            503,
        ),
        (
            Fault::Answer(200, r#"{"access_token":"a","token_type":"bearer"}"#),
            400,
        ),
    ] {
        let (setup, mut browser) = (Setup::new(), Browser::default());
        let server = setup.server();
        let location = browser.begin(&server, "").await;
        let callback = setup.provider.authorize(&location);
        setup.provider.fail("/token", fault.clone());
        let page = browser.get(&server, callback.as_str()).await;
        assert_eq!(page.status, status, "{fault:?}");
        assert!(!page.body.contains("canary"), "{}", page.body);
        assert_eq!(browser.session(), None);
        assert_eq!(browser.pending(), 0);
    }
}

#[tokio::test]
async fn d7_68_addresses_that_are_not_to_be_asked_are_refused() {
    for (member, address) in [
        ("token_endpoint", "http://idp.example/token"),
        ("token_endpoint", "http://169.254.169.254/latest/meta-data"),
        ("token_endpoint", "http://127.0.0.1:8080/token"),
        ("token_endpoint", "file:///etc/passwd"),
        ("token_endpoint", "https://user@idp.example/token"),
        ("token_endpoint", "/token"),
        ("userinfo_endpoint", "http://localhost/userinfo"),
        ("end_session_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", "http://idp.example/authorize"),
        ("authorization_endpoint", "https://idp.example/authorize#x"),
        ("issuer", "https://idp.example/"),
        ("issuer", OTHER_ISSUER),
    ] {
        let (setup, mut browser) = (Setup::new(), Browser::default());
        setup.provider.state().metadata = json!({ member: address });
        let page = browser.get(&setup.server(), "/auth/login").await;
        assert_eq!(page.status, 503, "{member} {address}");
        assert!(!page.headers.contains_key("location"), "{address}");
    }
    let (setup, mut browser) = (Setup::new(), Browser::default());
    setup.provider.state().metadata = json!({"jwks_uri": "http://127.0.0.1/keys"});
    assert_eq!(
        browser.sign_in(&setup, &setup.server(), "").await.status,
        503
    );
}

#[tokio::test]
async fn d7_68_redirects_are_not_followed_and_pictures_not_fetched() {
    for path in [
        "/.well-known/openid-configuration",
        "/token",
        "/keys",
        "/userinfo",
    ] {
        let setup = Setup::new();
        let server = setup.server();
        setup.provider.state().claims = json!({"email": null});
        let mut browser = Browser::default();
        if path.starts_with("/.well") {
            setup
                .provider
                .fail(path, Fault::Redirect("https://idp.example/elsewhere"));
            assert_eq!(
                browser.get(&server, "/auth/login").await.status,
                503,
                "{path}"
            );
        } else {
            let location = browser.begin(&server, "").await;
            let callback = setup.provider.authorize(&location);
            setup
                .provider
                .fail(path, Fault::Redirect("https://idp.example/elsewhere"));
            assert_eq!(
                browser.get(&server, callback.as_str()).await.status,
                503,
                "{path}"
            );
        }
        assert!(!setup.provider.asked().contains(&"/elsewhere".to_owned()));
    }
    let (setup, mut browser) = (Setup::new(), Browser::default());
    // The network of the test panics when another host is asked.
    setup.provider.state().claims = json!({"picture": "http://169.254.169.254/latest"});
    let server = setup.server();
    browser.sign_in(&setup, &server, "").await;
    let identity = server.identity(&browser).await.unwrap();
    assert_eq!(identity.picture(), Some("http://169.254.169.254/latest"));
}

#[tokio::test]
async fn d7_67_every_answer_is_kept_from_caches_frames_and_referers() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server_of_two();
    let location = browser.begin(&server, "?provider=corp").await;
    let callback = setup.provider.authorize(&location);
    let html = [("accept", "text/html"), ("origin", "https://evil.example")];
    for (method, target) in [
        (Method::GET, "/auth/login"),
        (Method::GET, "/auth/login?provider=corp"),
        (Method::GET, "/auth/login?provider=nobody"),
        (Method::GET, "/auth/login?return_to=//evil.example"),
        (Method::GET, "/auth/callback"),
        (Method::GET, callback.as_str()),
        (Method::GET, "/auth/signed-out"),
        (Method::GET, "/auth/logout"),
        (Method::POST, "/auth/logout"),
        (Method::POST, "/auth/backchannel-logout"),
        (Method::PUT, "/auth/login"),
        (Method::OPTIONS, "/auth/login"),
        (Method::GET, "/auth/nothing"),
        (Method::GET, "/elsewhere"),
        (Method::GET, "/auth"),
        (Method::GET, "/auth/login/"),
        (Method::GET, "/auth//login"),
        (Method::GET, "/auth/LOGIN"),
        (Method::GET, "/auth/%6cogin"),
    ] {
        let page = browser
            .send(&server, method.clone(), target, &html, "")
            .await;
        let what = format!("{method} {target} {}", page.status);
        let header = |name: &str| page.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("cache-control"), "no-store", "{what}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{what}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{what}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';"), "{what}");
        assert!(policy.contains("frame-ancestors 'none'"), "{what}");
        for name in page.headers.keys() {
            assert!(!name.as_str().starts_with("access-control-"), "{what}");
        }
    }
}

#[tokio::test]
async fn methods_and_paths_that_are_not_there_are_refused() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server();
    for (method, target, status, allow) in [
        (Method::POST, "/auth/login", 405, "GET, HEAD"),
        (Method::OPTIONS, "/auth/login", 405, "GET, HEAD"),
        (Method::DELETE, "/auth/callback", 405, "GET"),
        (Method::GET, "/auth/logout", 405, "POST"),
        (Method::HEAD, "/auth/logout", 405, "POST"),
        (Method::GET, "/auth/backchannel-logout", 405, "POST"),
        (Method::POST, "/auth/signed-out", 405, "GET, HEAD"),
        (Method::GET, "/auth/", 404, ""),
        (Method::GET, "/authlogin", 404, ""),
        (Method::GET, "/login", 404, ""),
        (Method::GET, "/", 404, ""),
    ] {
        let page = browser.send(&server, method.clone(), target, &[], "").await;
        assert_eq!(page.status, status, "{method} {target}");
        let allowed = page
            .headers
            .get("allow")
            .map(|value| value.to_str().unwrap());
        assert_eq!(allowed.unwrap_or_default(), allow, "{method} {target}");
    }
}

/// A store that is down, or that keeps nothing but claims.
struct Broken {
    inner: Arc<dyn Store>,
    claims: bool,
}

fn down<T>() -> StoreFuture<T> {
    AnswerFuture::ready(Err(StoreError::new("down")))
}

impl Store for Broken {
    fn insert(&self, _: Record) -> StoreFuture<()> {
        down()
    }
    fn find(&self, _: Key) -> StoreFuture<Option<Record>> {
        down()
    }
    fn touch(
        &self,
        _: Key,
        _: std::time::SystemTime,
        _: std::time::SystemTime,
    ) -> StoreFuture<bool> {
        down()
    }
    fn replace(&self, _: Key, _: u64, _: bytes::Bytes) -> StoreFuture<bool> {
        down()
    }
    fn lease(&self, _: Key, _: u128, _: Duration) -> StoreFuture<Lease> {
        down()
    }
    fn release(&self, _: Key, _: u128) -> StoreFuture<()> {
        down()
    }
    fn list(&self, _: &str, _: Kind) -> StoreFuture<Vec<Record>> {
        down()
    }
    fn end(&self, _: End) -> StoreFuture<u64> {
        down()
    }
    fn ended(&self, _: Duration) -> StoreFuture<Vec<Ended>> {
        down()
    }
    fn set_disabled(&self, _: &str, _: bool) -> StoreFuture<()> {
        down()
    }
    fn disabled(&self) -> StoreFuture<Vec<Arc<str>>> {
        down()
    }
    fn claim(&self, what: Key, until: std::time::SystemTime) -> StoreFuture<bool> {
        if self.claims {
            self.inner.claim(what, until)
        } else {
            down()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_costs_a_page() {
    for claims in [false, true] {
        let mut setup = Setup::new();
        let inner = Arc::clone(&setup.store);
        setup.store = Arc::new(Broken { inner, claims });
        let server = setup.server();
        let mut browser = Browser::default();
        let page = browser.sign_in(&setup, &server, "").await;
        assert_eq!(page.status, 503, "{}", page.body);
        assert!(page.headers.contains_key("retry-after"));
        assert_eq!(browser.session(), None);
        assert_eq!(
            browser.pending() == 1,
            !claims,
            "what is not spent can be tried again"
        );

        let token = setup.provider.logout_token(&json!({}));
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let body = format!("logout_token={token}");
        let page = browser
            .send(
                &server,
                Method::POST,
                "/auth/backchannel-logout",
                &form,
                &body,
            )
            .await;
        assert_eq!(page.status, 503);
    }
}

#[tokio::test(start_paused = true)]
async fn d7_66_the_whole_of_a_callback_takes_ten_seconds_at_most() {
    let setup = Setup::new();
    let mut browser = Browser::default();
    let location = browser.begin(&setup.server(), "").await;
    let callback = setup.provider.authorize(&location);
    // A server that must ask for everything.
    setup
        .provider
        .fail("/.well-known/openid-configuration", Fault::Never);
    let begun = Instant::now();
    let page = browser.get(&setup.server(), callback.as_str()).await;
    assert_eq!(page.status, 503);
    assert!(begun.elapsed() <= Duration::from_secs(10));
    assert_eq!(browser.pending(), 1, "nothing is spent");
    setup.provider.heal();
    let page = browser.get(&setup.server(), callback.as_str()).await;
    assert_eq!(page.status, 303);
}
