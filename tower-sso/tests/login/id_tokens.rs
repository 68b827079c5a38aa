//! ID tokens that do not hold.

use serde_json::{Value, json};

use crate::support::*;

/// The status of a sign-in whose ID token has these claims and header members instead.
async fn sign_in(claims: Value, header: Value) -> (u16, Option<String>) {
    let setup = Setup::new();
    let server = setup.server();
    setup.provider.state().claims = claims;
    setup.provider.state().header = header;
    let mut browser = Browser::default();
    let page = browser.sign_in(&setup, &server, "").await;
    (page.status.as_u16(), browser.session())
}

#[tokio::test]
async fn d1_11_what_is_not_an_id_token_of_this_sign_in_opens_no_session() {
    for (claims, header) in [
        // Other kinds.
        (json!({}), json!({"typ": "at+jwt"})),
        (json!({}), json!({"typ": "application/at+jwt"})),
        (json!({}), json!({"typ": "logout+jwt"})),
        (json!({}), json!({"typ": "secevent+jwt"})),
        (json!({"typ": "Bearer"}), json!({})),
        (json!({"typ": "Refresh"}), json!({})),
        (json!({"typ": 7}), json!({})),
        (
            json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
            json!({}),
        ),
        (json!({"events": {}}), json!({})),
        // Another sign-in's.
        (json!({"nonce": null}), json!({})),
        (json!({"nonce": ""}), json!({})),
        (json!({"nonce": "A".repeat(43)}), json!({})),
        (json!({"nonce": ["x"]}), json!({})),
        // Another issuer's, client's or token's.
        (json!({"iss": OTHER_ISSUER}), json!({})),
        (json!({"iss": "https://idp.example/"}), json!({})),
        (json!({"iss": null}), json!({})),
        (json!({"aud": "other"}), json!({})),
        (json!({"aud": null}), json!({})),
        (json!({"aud": []}), json!({})),
        (json!({"aud": ["other"]}), json!({})),
        (json!({"aud": [CLIENT, "other"]}), json!({})),
        (json!({"aud": [CLIENT, "other"], "azp": "other"}), json!({})),
        (json!({"aud": CLIENT, "azp": "other"}), json!({})),
        (json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}), json!({})),
        (json!({"at_hash": 7}), json!({})),
        // Out of time.
        (json!({"exp": NOW - 60}), json!({})),
        (json!({"exp": null}), json!({})),
        (json!({"exp": "9999999999"}), json!({})),
        (json!({"iat": null}), json!({})),
        (json!({"iat": NOW + 61}), json!({})),
        (json!({"nbf": NOW + 61}), json!({})),
        // About nobody.
        (json!({"sub": null}), json!({})),
        (json!({"sub": ""}), json!({})),
        (json!({"sub": 7}), json!({})),
        (json!({"sub": "a\u{202e}b"}), json!({})),
        (json!({"sub": "a".repeat(256)}), json!({})),
        (json!({"email": 7}), json!({})),
        (json!({"email_verified": "true"}), json!({})),
        (json!({"groups": 7}), json!({})),
        // Signed by nobody.
        (json!({}), json!({"alg": "none"})),
        (json!({}), json!({"alg": "HS256"})),
        (json!({}), json!({"alg": "RS256"})),
        (json!({}), json!({"kid": "unknown"})),
        (json!({}), json!({"crit": ["x"]})),
    ] {
        let (status, session) = sign_in(claims.clone(), header.clone()).await;
        assert_eq!((status, session), (400, None), "{claims} {header}");
    }
}

#[tokio::test]
async fn d1_11_what_is_one_does() {
    for (claims, header) in [
        (json!({}), json!({})),
        (json!({}), json!({"typ": null})),
        (json!({"typ": "ID"}), json!({})),
        (json!({"aud": [CLIENT]}), json!({})),
        (json!({"aud": CLIENT, "azp": CLIENT}), json!({})),
        (json!({"aud": [CLIENT, "other"], "azp": CLIENT}), json!({})),
        (json!({"at_hash": null}), json!({})),
        (json!({"exp": NOW - 59}), json!({})),
        (json!({"iat": NOW + 60}), json!({})),
        (json!({"sid": null, "email": null, "name": null}), json!({})),
    ] {
        let (status, session) = sign_in(claims.clone(), header.clone()).await;
        assert_eq!(status, 303, "{claims} {header}");
        assert!(session.is_some());
    }
}

#[tokio::test]
async fn d1_11_an_id_token_of_another_key_or_of_none_is_refused() {
    let setup = Setup::new();
    let server = setup.server();
    let forged = {
        let state = setup.provider.state();
        let claims =
            json!({"iss": ISSUER, "aud": CLIENT, "sub": "alice", "iat": NOW, "exp": NOW + 60});
        let header = json!({"alg": "ES256", "kid": "k"});
        let other = SigningKey::new().token(&header, &claims);
        let unsigned = format!("{}.", other.rsplit_once('.').unwrap().0);
        drop(state);
        [
            json!(other),
            json!(unsigned),
            json!("x.y.z"),
            json!(""),
            json!(null),
            json!({}),
            json!("a".repeat(20_000)),
        ]
    };
    for id_token in forged {
        setup.provider.state().tokens = json!({"id_token": id_token});
        let mut browser = Browser::default();
        let page = browser.sign_in(&setup, &server, "").await;
        assert!(
            page.status == 400 || page.status == 503,
            "{id_token} {}",
            page.status
        );
        assert_eq!(browser.session(), None, "{id_token}");
    }
}

#[tokio::test]
async fn d7_62_the_nonce_of_an_earlier_sign_in_does_not_open_another() {
    let setup = Setup::new();
    let server = setup.server();
    let mut browser = Browser::default();
    let first = browser.begin(&server, "").await;
    let stolen = parameter(&first, "nonce").unwrap();
    let replayed = setup.provider.state().id_token(Some(&stolen), "x");
    setup.provider.state().tokens = json!({"access_token": "x", "id_token": replayed});
    let page = browser.sign_in(&setup, &server, "").await;
    assert_eq!(page.status, 400);
    assert_eq!(browser.session(), None);
}

#[tokio::test]
async fn userinfo_about_somebody_else_is_refused() {
    for userinfo in [
        json!({"sub": "bob", "email": "bob@example.com"}),
        json!({"email": "bob@example.com"}),
        json!({"sub": "Alice"}),
        json!({"sub": 7}),
        json!({"sub": "alice", "email": ["x"]}),
        json!({"sub": "alice", "email": "a@example.com", "email_verified": "true"}),
    ] {
        let setup = Setup::new();
        let server = setup.server();
        setup.provider.state().claims = json!({"email": null, "email_verified": null});
        setup.provider.state().userinfo = userinfo.clone();
        let mut browser = Browser::default();
        let page = browser.sign_in(&setup, &server, "").await;
        assert_eq!(page.status, 400, "{userinfo}");
        assert_eq!(browser.session(), None, "{userinfo}");
    }
}

#[tokio::test]
async fn an_address_is_verified_only_by_whoever_names_it() {
    let setup = Setup::new();
    let server = setup.server();
    setup.provider.state().claims = json!({"email_verified": null, "name": null});
    setup.provider.state().userinfo =
        json!({"sub": "alice", "email": "other@example.com", "email_verified": true, "name": "A"});
    let mut browser = Browser::default();
    browser.sign_in(&setup, &server, "").await;
    let identity = server.identity(&browser).await.unwrap();
    assert_eq!(identity.email(), Some("alice@example.com"));
    assert!(!identity.email_verified());
    assert_eq!(identity.name(), Some("A"));
}
