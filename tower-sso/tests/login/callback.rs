//! Callbacks that somebody made up, changed, kept or planted.

use http::Method;
use serde_json::json;

use crate::support::*;

/// A sign-in under way, at the point where the provider sends the browser back.
async fn sent_back(setup: &Setup, server: &Server) -> (Browser, url::Url) {
    let mut browser = Browser::default();
    let query = match server.providers_len() {
        1 => "",
        _ => "?provider=corp",
    };
    let location = browser.begin(server, query).await;
    let callback = setup.provider.authorize(&location);
    setup.provider.asked();
    (browser, callback)
}

impl Server {
    fn providers_len(&self) -> usize {
        format!("{:?}", self.providers).matches('"').count() / 2
    }
}

async fn is_refused(browser: &mut Browser, server: &Server, callback: &url::Url, what: &str) {
    let page = browser.get(server, callback.as_str()).await;
    assert_eq!(page.status, 400, "{what}: {}", page.body);
    assert_eq!(browser.session(), None, "{what}");
}

#[tokio::test]
async fn d7_62_a_state_that_is_missing_forged_or_malformed_is_refused() {
    let setup = Setup::new();
    let server = setup.server();
    let (mut browser, callback) = sent_back(&setup, &server).await;
    let state = parameter(callback.as_str(), "state").unwrap();
    // The cookie is found, but it is another state's.
    let forged = format!("{}{}", &state[..8], "A".repeat(35));
    let flipped = format!(
        "{}{}",
        &state[..42],
        if state.ends_with('A') { "B" } else { "A" }
    );
    let unknown = "A".repeat(43);
    for state in [
        None,
        Some(""),
        Some("short"),
        Some(&*forged),
        Some(&*flipped),
        Some(&*unknown),
        Some(&*format!("{state}A")),
        Some(&*format!(" {}", &state[1..])),
        Some(&*format!("{};", &state[..42])),
        Some(&*"é".repeat(22)),
    ] {
        let changed = with(&callback, "state", state);
        is_refused(&mut browser, &server, &changed, &format!("{state:?}")).await;
    }
    assert!(
        setup.provider.asked().is_empty(),
        "nobody asks with a code that is not ours"
    );
    let page = browser.get(&server, callback.as_str()).await;
    assert_eq!(page.status, 303, "the sign-in itself is unharmed");
}

#[tokio::test]
async fn d7_62_a_state_counts_once_wherever_it_arrives() {
    let setup = Setup::new();
    let (one, other) = (setup.server(), setup.server());
    let (browser, callback) = sent_back(&setup, &one).await;
    // The same browser state, kept from before: as if the cookie had never been taken away.
    let mut kept = browser.clone();
    let page = browser.clone().get(&one, callback.as_str()).await;
    assert_eq!(page.status, 303);
    setup.provider.asked();
    for server in [&one, &other] {
        is_refused(&mut kept.clone(), server, &callback, "again").await;
        let with_code = with(&callback, "code", Some("another"));
        is_refused(&mut kept.clone(), server, &with_code, "another code").await;
    }
    is_refused(&mut kept, &one, &callback, "again").await;
    let asked = setup.provider.asked();
    let metadata = "/.well-known/openid-configuration";
    assert!(
        asked.iter().all(|path| path == metadata),
        "the provider is not asked with the code"
    );
}

#[tokio::test]
async fn d7_62_many_callbacks_at_once_are_one_sign_in() {
    let setup = Setup::new();
    let server = setup.server();
    let (browser, callback) = sent_back(&setup, &server).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (mut browser, server, callback) = (browser.clone(), server.clone(), callback.clone());
        waiting.spawn(async move { browser.get(&server, callback.as_str()).await.status });
    }
    let statuses = waiting.join_all().await;
    let signed_in = statuses.iter().filter(|status| **status == 303).count();
    assert_eq!(signed_in, 1);
    let tokens = setup
        .provider
        .asked()
        .iter()
        .filter(|path| *path == "/token")
        .count();
    assert_eq!(tokens, 1);
}

#[tokio::test]
async fn d7_62_another_browser_cannot_end_a_sign_in() {
    let setup = Setup::new();
    let server = setup.server();
    // Login CSRF: the attacker's callback in the victim's browser.
    let (_, attackers) = sent_back(&setup, &server).await;
    let (mut victim, own) = sent_back(&setup, &server).await;
    is_refused(
        &mut victim,
        &server,
        &attackers,
        "with a sign-in of one's own",
    )
    .await;
    is_refused(&mut Browser::default(), &server, &attackers, "with none").await;
    // Code injection: the attacker's code with the victim's state. The verifier is not its own.
    let code = parameter(attackers.as_str(), "code").unwrap();
    let injected = with(&own, "code", Some(&code));
    is_refused(&mut victim, &server, &injected, "code injection").await;
}

#[tokio::test]
async fn d7_62_a_sign_in_is_over_after_ten_minutes() {
    let setup = Setup::new();
    let server = setup.server();
    let (mut browser, callback) = sent_back(&setup, &server).await;
    setup.clock.advance(600);
    is_refused(&mut browser, &server, &callback, "late").await;
    assert!(setup.provider.asked().is_empty());

    let (mut browser, callback) = sent_back(&setup, &server).await;
    setup.clock.advance(599);
    assert_eq!(browser.get(&server, callback.as_str()).await.status, 303);
}

#[tokio::test]
async fn d7_62_pkce_is_always_there_and_never_plain() {
    for metadata in [
        json!({}),
        json!({"code_challenge_methods_supported": ["plain"]}),
        json!({"code_challenge_methods_supported": []}),
    ] {
        let setup = Setup::new();
        setup.provider.state().metadata = metadata;
        let server = setup.server();
        let mut browser = Browser::default();
        let location = browser.begin(&server, "").await;
        assert_eq!(
            parameter(&location, "code_challenge_method").unwrap(),
            "S256"
        );
        let challenge = parameter(&location, "code_challenge").unwrap();
        let callback = setup.provider.authorize(&location);
        browser.get(&server, callback.as_str()).await;
        let asked = std::mem::take(&mut setup.provider.state().asked);
        let asked = asked.iter().find(|asked| asked.path == "/token").unwrap();
        assert_eq!(sha256(&asked.form["code_verifier"]), challenge);
        assert!(!asked.form.contains_key("state"));
    }
}

#[tokio::test]
async fn d7_62_state_nonce_and_verifier_are_new_each_time() {
    let setup = Setup::new();
    let server = setup.server();
    let mut seen = std::collections::HashSet::new();
    let mut browser = Browser::default();
    for _ in 0..20 {
        let location = browser.begin(&server, "").await;
        for name in ["state", "nonce", "code_challenge"] {
            assert!(
                seen.insert(parameter(&location, name).unwrap()),
                "{name} again"
            );
        }
    }
}

#[tokio::test]
async fn d1_16_a_callback_of_another_provider_is_refused_before_anybody_is_asked() {
    let setup = Setup::new();
    let server = setup.server_of_two();
    for issuer in [
        Some(OTHER_ISSUER),
        Some("https://idp.example/"),
        Some("https://IDP.example"),
        Some("https://idp.example.evil.example"),
        Some("idp.example"),
        // The provider says that it always names itself.
        Some(""),
        None,
    ] {
        let (mut browser, callback) = sent_back(&setup, &server).await;
        let mixed = with(&callback, "iss", issuer);
        is_refused(&mut browser, &server, &mixed, &format!("{issuer:?}")).await;
        assert!(setup.provider.asked().is_empty(), "{issuer:?}");
        assert!(setup.other.asked().is_empty(), "{issuer:?}");
        assert_eq!(browser.pending(), 0, "{issuer:?}");
    }
}

#[tokio::test]
async fn d1_16_a_code_of_another_provider_is_worth_nothing() {
    let setup = Setup::new();
    // Neither names itself: only what the code belongs to is left.
    let silent = json!({"authorization_response_iss_parameter_supported": null});
    setup.provider.state().metadata = silent.clone();
    setup.other.state().metadata = silent;
    let server = setup.server_of_two();
    let (mut browser, callback) = sent_back(&setup, &server).await;
    let location = browser.begin(&server, "?provider=other").await;
    let others = setup.other.authorize(&location);
    setup.other.asked();

    let code = parameter(others.as_str(), "code").unwrap();
    let mixed = with(&with(&callback, "code", Some(&code)), "iss", None);
    is_refused(&mut browser, &server, &mixed, "code of the other").await;
    assert!(setup.other.asked().is_empty());
}

#[tokio::test]
async fn a_provider_that_does_not_promise_to_name_itself_may_be_silent() {
    let setup = Setup::new();
    setup.provider.state().metadata =
        json!({"authorization_response_iss_parameter_supported": null});
    let server = setup.server();
    let (mut browser, callback) = sent_back(&setup, &server).await;
    let silent = with(&callback, "iss", None);
    assert_eq!(browser.get(&server, silent.as_str()).await.status, 303);

    let (mut browser, callback) = sent_back(&setup, &server).await;
    let wrong = with(&callback, "iss", Some(OTHER_ISSUER));
    is_refused(&mut browser, &server, &wrong, "names another").await;
}

#[tokio::test]
async fn d7_62_an_error_is_shown_as_one_of_the_known_and_never_echoed() {
    let setup = Setup::new();
    let server = setup.server();
    let script = "<script>alert(1)</script>";
    for (error, status, code) in [
        ("access_denied", 403, "access_denied"),
        ("temporarily_unavailable", 503, "temporarily_unavailable"),
        ("server_error", 503, "server_error"),
        ("login_required", 400, "interaction_required"),
        ("invalid_scope", 502, "invalid_scope"),
        ("unauthorized_client", 502, "unauthorized_client"),
        (script, 502, "provider_error"),
        ("canary\r\nx: y", 502, "provider_error"),
    ] {
        for html in [true, false] {
            let (mut browser, callback) = sent_back(&setup, &server).await;
            let callback = with(&with(&callback, "code", None), "error", Some(error));
            let callback = with(&callback, "error_description", Some(script));
            let callback = with(&callback, "error_uri", Some("javascript:alert(1)"));
            let accept = if html {
                "text/html"
            } else {
                "application/json"
            };
            let headers = [("accept", accept)];
            let page = browser
                .send(&server, Method::GET, callback.as_str(), &headers, "")
                .await;
            assert_eq!(page.status, status, "{error}");
            let shown = format!("{:?} {}", page.headers, page.body);
            for echo in ["script", "alert", "canary", "javascript"] {
                assert!(!shown.contains(echo), "{error}: {shown}");
            }
            if !html {
                assert!(
                    page.body.contains(&format!("\"code\":\"{code}\"")),
                    "{}",
                    page.body
                );
            }
            assert_eq!(page.headers.contains_key("retry-after"), status == 503);
            assert_eq!(browser.session(), None);
            assert_eq!(browser.pending(), 0, "the sign-in is over");
            assert!(setup.provider.asked().is_empty());
        }
    }
}

#[tokio::test]
async fn d7_62_other_response_modes_and_flows_are_refused() {
    let setup = Setup::new();
    let server = setup.server();
    let (mut browser, callback) = sent_back(&setup, &server).await;
    let query = callback.query().unwrap();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let page = browser
        .send(&server, Method::POST, CALLBACK, &form, query)
        .await;
    assert_eq!(page.status, 405);
    assert_eq!(page.headers["allow"], "GET");
    let page = browser
        .send(&server, Method::POST, callback.as_str(), &form, query)
        .await;
    assert_eq!(page.status, 405);
    let page = browser
        .send(&server, Method::HEAD, callback.as_str(), &[], "")
        .await;
    assert_eq!(page.status, 405, "a HEAD spends no code");

    for (name, value) in [
        ("access_token", "x"),
        ("id_token", "x"),
        ("token_type", "bearer"),
        ("response", "x"),
        ("error", "access_denied"),
        ("state", &parameter(callback.as_str(), "state").unwrap()),
        ("code", "second"),
        ("iss", ISSUER),
    ] {
        let mut changed = callback.clone();
        changed.query_pairs_mut().append_pair(name, value);
        is_refused(&mut browser, &server, &changed, name).await;
    }
    for broken in ["%zz", "%ff", "&code=%"] {
        let changed = format!("{callback}&x={broken}");
        let page = browser.get(&server, &changed).await;
        assert_eq!(page.status, 400, "{broken}");
    }
    let long = with(&callback, "code", Some(&"a".repeat(8 * 1024 + 1)));
    is_refused(&mut browser, &server, &long, "a code of 8 KiB").await;
    let none = with(&callback, "code", None);
    is_refused(&mut browser, &server, &none, "neither code nor error").await;
    assert!(setup.provider.asked().is_empty());
    assert_eq!(browser.get(&server, callback.as_str()).await.status, 303);
}

#[tokio::test]
async fn d7_63_no_line_of_the_corpus_is_returned_to() {
    let setup = Setup::new();
    let server = setup.server();
    let corpus = include_str!("../../src/login/open_redirects.txt");
    for target in corpus.lines().filter(|line| !line.starts_with("## ")) {
        let mut address = url::Url::parse(&format!("{ORIGIN}/auth/login")).unwrap();
        address.query_pairs_mut().append_pair("return_to", target);
        let mut browser = Browser::default();
        let page = browser.get(&server, address.as_str()).await;
        assert_eq!(page.status, 400, "{target}");
        assert!(!page.headers.contains_key("location"), "{target}");
        assert_eq!(browser.pending(), 0, "{target}");
    }
    // Raw in the query as well, as far as a server would let it through.
    for query in [
        "return_to=//evil.example",
        "return_to=/\\evil.example",
        "return_to=/%09/evil.example",
        "return_to=/%0d%0aset-cookie:%20a=b",
        "return_to=https://evil.example",
        "return_to=/a&return_to=//evil.example",
        "return_to=/a&return_to=/b",
        "return_to=%",
    ] {
        let page = Browser::default()
            .get(&server, &format!("/auth/login?{query}"))
            .await;
        assert_eq!(page.status, 400, "{query}");
    }
}

#[tokio::test]
async fn d7_66_an_unknown_provider_is_refused_without_being_echoed() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server_of_two();
    for alias in [
        "nobody",
        "CORP",
        "corp%20",
        "<script>alert(1)</script>",
        "corp|x",
    ] {
        let page = browser
            .get(
                &server,
                &format!(
                    "/auth/login?provider={}",
                    alias.replace('<', "%3C").replace('>', "%3E")
                ),
            )
            .await;
        assert_eq!(page.status, 400, "{alias}");
        assert!(!page.body.contains("script"), "{}", page.body);
    }
    let page = browser
        .get(&server, "/auth/login?provider=corp&provider=other")
        .await;
    assert_eq!(page.status, 400);
}
