//! Logout tokens.

use http::Method;
use serde_json::{Value, json};

use crate::support::*;

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];

async fn send(server: &Server, token: &str) -> Page {
    let body = format!("logout_token={token}");
    let target = "/auth/backchannel-logout";
    Browser::default()
        .send(server, Method::POST, target, &FORM, &body)
        .await
}

async fn signed_in(setup: &Setup, server: &Server, claims: Value) -> Browser {
    setup.provider.state().claims = claims;
    let mut browser = Browser::default();
    browser.sign_in(setup, server, "").await;
    assert!(server.identity(&browser).await.is_some());
    browser
}

#[tokio::test]
async fn d7_65_a_logout_token_ends_what_it_names() {
    for (claims, ended) in [
        // The one session, also if it says whose it is.
        (json!({"sid": "sid-1", "sub": null}), [true, false, false]),
        (
            json!({"sid": "sid-1", "sub": "alice"}),
            [true, false, false],
        ),
        // All sessions of the person.
        (json!({"sid": null, "sub": "alice"}), [true, true, false]),
        (json!({"sid": "unknown"}), [false, false, false]),
        (json!({"sid": null, "sub": "nobody"}), [false, false, false]),
    ] {
        let setup = Setup::new();
        let server = setup.server();
        let browsers = [
            signed_in(&setup, &server, json!({"sid": "sid-1"})).await,
            signed_in(&setup, &server, json!({"sid": "sid-2"})).await,
            signed_in(&setup, &server, json!({"sid": "sid-3", "sub": "bob"})).await,
        ];
        let token = setup.provider.logout_token(&claims);
        let page = send(&server, &token).await;
        assert_eq!(page.status, 200, "{claims}: {}", page.body);
        assert_eq!(page.headers["cache-control"], "no-store");
        for (place, browser) in browsers.iter().enumerate() {
            let is_over = server.identity(browser).await.is_none();
            assert_eq!(is_over, ended[place], "{claims} {place}");
        }
    }
}

#[tokio::test]
async fn d7_65_a_token_that_is_no_logout_token_ends_nothing() {
    for (claims, header) in [
        (json!({"nonce": "x"}), json!({})),
        (json!({"nonce": null, "sid": null}), json!({})),
        (json!({"sid": "", "sub": "alice"}), json!({})),
        (json!({"sid": 7, "sub": "alice"}), json!({})),
        (json!({"events": null}), json!({})),
        (json!({"events": {}}), json!({})),
        (json!({"events": []}), json!({})),
        (
            json!({"events": "http://schemas.openid.net/event/backchannel-logout"}),
            json!({}),
        ),
        (
            json!({"events": {"http://schemas.openid.net/event/backchannel-logout": true}}),
            json!({}),
        ),
        (
            json!({"events": {"https://schemas.openid.net/event/backchannel-logout": {}}}),
            json!({}),
        ),
        (json!({"iss": OTHER_ISSUER}), json!({})),
        (json!({"iss": null}), json!({})),
        (json!({"aud": "other"}), json!({})),
        (json!({"aud": null}), json!({})),
        (json!({"aud": []}), json!({})),
        (json!({"exp": NOW - 60}), json!({})),
        (json!({"exp": null}), json!({})),
        (json!({"exp": NOW + 30 * 24 * 3600}), json!({})),
        (json!({"iat": null}), json!({})),
        (json!({"iat": NOW + 61}), json!({})),
        (json!({"iat": "x"}), json!({})),
        (json!({"jti": null}), json!({})),
        (json!({"jti": ""}), json!({})),
        (json!({"jti": 7}), json!({})),
        (json!({}), json!({"typ": "at+jwt"})),
        (json!({}), json!({"typ": "id+jwt"})),
        (json!({}), json!({"alg": "none"})),
        (json!({}), json!({"alg": "HS256"})),
        (json!({}), json!({"kid": "unknown"})),
        (json!({}), json!({"crit": ["x"]})),
    ] {
        let setup = Setup::new();
        let server = setup.server();
        let browser = signed_in(&setup, &server, json!({})).await;
        setup.provider.state().header = header.clone();
        let token = setup.provider.logout_token(&claims);
        let page = send(&server, &token).await;
        assert_eq!(page.status, 400, "{claims} {header}");
        assert_eq!(page.body, r#"{"error":"invalid_request"}"#);
        assert_eq!(page.headers["cache-control"], "no-store");
        assert!(
            server.identity(&browser).await.is_some(),
            "{claims} {header}"
        );
    }
}

#[tokio::test]
async fn d7_65_the_type_may_be_named_or_not() {
    for header in [
        json!({}),
        json!({"typ": null}),
        json!({"typ": "JWT"}),
        json!({"typ": "Logout+JWT"}),
        json!({"typ": "application/logout+jwt"}),
    ] {
        let setup = Setup::new();
        let server = setup.server();
        let browser = signed_in(&setup, &server, json!({})).await;
        setup.provider.state().header = header.clone();
        let token = setup.provider.logout_token(&json!({}));
        assert_eq!(send(&server, &token).await.status, 200, "{header}");
        assert!(server.identity(&browser).await.is_none(), "{header}");
    }
}

#[tokio::test]
async fn d7_65_a_logout_token_counts_once_at_any_server() {
    let setup = Setup::new();
    let (one, other) = (setup.server(), setup.server());
    let token = setup.provider.logout_token(&json!({}));
    assert_eq!(send(&one, &token).await.status, 200);
    let browser = signed_in(&setup, &one, json!({})).await;
    for server in [&one, &other] {
        assert_eq!(send(server, &token).await.status, 400, "replayed");
        // Changed in nothing but what the id is of.
        assert!(server.identity(&browser).await.is_some());
    }
}

#[tokio::test]
async fn d1_11_an_id_token_or_another_providers_token_signs_nobody_out() {
    let setup = Setup::new();
    let server = setup.server_of_two();
    let mut browser = Browser::default();
    browser.sign_in(&setup, &server, "?provider=corp").await;
    let id_token = setup.provider.state().id_token(None, "x");
    assert_eq!(send(&server, &id_token).await.status, 400);
    // The other provider speaks for its own people only.
    let token = setup
        .other
        .logout_token(&json!({"sid": null, "sub": "alice"}));
    assert_eq!(send(&server, &token).await.status, 200);
    assert!(server.identity(&browser).await.is_some());
    // And cannot speak in the first one's name.
    let token = setup.other.logout_token(&json!({"iss": ISSUER}));
    assert_eq!(send(&server, &token).await.status, 400);
    assert!(server.identity(&browser).await.is_some());
}

#[tokio::test]
async fn d7_65_requests_that_are_malformed_are_refused() {
    let setup = Setup::new();
    let server = setup.server();
    let browser = signed_in(&setup, &server, json!({})).await;
    let token = setup.provider.logout_token(&json!({}));
    let json = [("content-type", "application/json")];
    let target = "/auth/backchannel-logout";
    for (headers, body, status) in [
        (&FORM[..], String::new(), 400),
        (&FORM, "logout_token=".to_owned(), 400),
        (&FORM, "logout_token=x".to_owned(), 400),
        (&FORM, "logout_token=x.y.z".to_owned(), 400),
        (&FORM, format!("token={token}"), 400),
        (
            &FORM,
            format!("logout_token={token}&logout_token={token}"),
            400,
        ),
        (&FORM, format!("logout_token={}", "a".repeat(30_000)), 413),
        (&FORM, format!("logout_token={token}&x=%zz"), 400),
        (&json, format!("logout_token={token}"), 400),
        (&[], format!("logout_token={token}"), 400),
    ] {
        let page = Browser::default()
            .send(&server, Method::POST, target, headers, &body)
            .await;
        assert_eq!(page.status, status, "{headers:?} {body:.80}");
        assert!(server.identity(&browser).await.is_some());
    }
    let query = format!("{target}?logout_token={token}");
    let page = Browser::default()
        .send(&server, Method::POST, &query, &FORM, "")
        .await;
    assert_eq!(page.status, 400, "not in the query");
    let charset = [(
        "content-type",
        "application/x-www-form-urlencoded; charset=utf-8",
    )];
    let body = format!("logout_token={token}");
    let page = Browser::default()
        .send(&server, Method::POST, target, &charset, &body)
        .await;
    assert_eq!(page.status, 200);
}

#[tokio::test]
async fn while_the_keys_cannot_be_had_the_provider_is_asked_to_come_again() {
    let setup = Setup::new();
    let server = setup.server();
    setup.provider.fail("/keys", Fault::Error);
    let token = setup.provider.logout_token(&json!({}));
    assert_eq!(send(&server, &token).await.status, 503);
}
