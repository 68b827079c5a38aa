//! Asking a provider whether a session goes on.

use std::time::Duration;

use serde_json::json;
use tower_sso::{
    Identity,
    jwt::Clock as _,
    session::{IssuerTokens, Refresh as _, RefreshError, Refreshed},
};

use crate::support::*;

/// Tokens as a sign-in gets them.
async fn signed_in(setup: &Setup, server: &Server) -> IssuerTokens {
    let mut browser = Browser::default();
    browser.sign_in(setup, server, "").await;
    setup.provider.asked();
    let (id_token, count) = {
        let state = setup.provider.state();
        (state.id_token(None, "x"), state.count())
    };
    tokens(&format!("canary-refresh-{count}"), Some(&id_token))
}

async fn refresh(server: &Server, tokens: &IssuerTokens) -> Result<Refreshed, RefreshError> {
    server.providers.refresh(&person("corp"), tokens).await
}

#[tokio::test]
async fn a_refresh_brings_new_tokens_and_who_the_person_is_now() {
    let setup = Setup::new();
    let provider = registration().role("admin", ["admins"]);
    let server = setup.server_with([provider], &[1], |login| login);
    let tokens = signed_in(&setup, &server).await;
    setup.provider.state().claims = json!({"groups": ["admins"], "name": "Alice B."});
    let refreshed = refresh(&server, &tokens).await.unwrap();
    let identity = refreshed.identity.unwrap();
    assert_eq!(identity.name(), Some("Alice B."));
    assert_eq!(&*identity.roles()[0], "admin");
    assert_eq!(&**identity.user_id(), "alice");
    assert_ne!(refreshed.tokens.refresh_token(), tokens.refresh_token());
    let soon = setup.clock.now() + Duration::from_secs(225);
    assert_eq!(
        refreshed.tokens.refresh_at(),
        Some(soon),
        "three quarters of 300 seconds"
    );
}

#[tokio::test]
async fn what_a_provider_does_not_give_anew_stays() {
    let setup = Setup::new();
    let server = setup.server();
    let tokens = signed_in(&setup, &server).await;
    setup.provider.state().tokens = json!({"id_token": null, "refresh_token": null});
    let refreshed = refresh(&server, &tokens).await.unwrap();
    assert!(refreshed.identity.is_none());
    assert_eq!(refreshed.tokens.refresh_token(), tokens.refresh_token());
    assert_eq!(refreshed.tokens.id_token(), tokens.id_token());
}

#[tokio::test(start_paused = true)]
async fn only_the_provider_itself_ends_a_session() {
    for (fault, wanted) in [
        (
            Fault::Answer(400, r#"{"error":"invalid_grant"}"#),
            RefreshError::Refused,
        ),
        (
            Fault::Answer(401, r#"{"error":"invalid_client"}"#),
            RefreshError::Unavailable,
        ),
        (Fault::Answer(500, ""), RefreshError::Unavailable),
        (Fault::Answer(429, ""), RefreshError::Unavailable),
        (Fault::Answer(200, "{}"), RefreshError::Unavailable),
        (Fault::Error, RefreshError::Unavailable),
        (Fault::Never, RefreshError::Unavailable),
    ] {
        let setup = Setup::new();
        let server = setup.server();
        let tokens = signed_in(&setup, &server).await;
        setup.provider.fail("/token", fault.clone());
        assert_eq!(
            refresh(&server, &tokens).await.err(),
            Some(wanted),
            "{fault:?}"
        );
    }
    let setup = Setup::new();
    let server = setup.server();
    let tokens = signed_in(&setup, &server).await;
    let unknown = server.providers.refresh(&person("gone"), &tokens).await;
    assert_eq!(unknown.err(), Some(RefreshError::Unavailable));
}

#[tokio::test]
async fn d1_11_a_refresh_cannot_make_somebody_else_of_a_person() {
    for claims in [
        json!({"sub": "bob"}),
        json!({"iss": OTHER_ISSUER}),
        json!({"aud": "other"}),
        json!({"exp": NOW - 60}),
    ] {
        let setup = Setup::new();
        let server = setup.server();
        let tokens = signed_in(&setup, &server).await;
        setup.provider.state().claims = claims.clone();
        let refused = refresh(&server, &tokens).await.err();
        assert_eq!(refused, Some(RefreshError::Refused), "{claims}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_refresh_token_is_not_lost_when_the_person_cannot_be_asked_about() {
    let setup = Setup::new();
    let server = setup.server();
    let tokens = signed_in(&setup, &server).await;
    setup.provider.state().claims = json!({"email": null});
    setup.provider.fail("/userinfo", Fault::Never);
    let refreshed = refresh(&server, &tokens).await.unwrap();
    assert!(refreshed.identity.is_none());
    let token = refreshed.tokens.refresh_token().unwrap();
    assert!(token.starts_with("canary-refresh-"));
}

#[tokio::test]
async fn how_often_is_asked_is_bounded() {
    for (expires_in, wanted) in [
        (json!(1), 5),
        (json!(0), 5),
        (json!(null), 2700),
        (json!(400_000), 86_400),
    ] {
        let setup = Setup::new();
        let server = setup.server();
        let tokens = signed_in(&setup, &server).await;
        setup.provider.state().tokens = json!({"expires_in": expires_in});
        let refreshed = refresh(&server, &tokens).await.unwrap();
        let at = setup.clock.now() + Duration::from_secs(wanted);
        assert_eq!(refreshed.tokens.refresh_at(), Some(at), "{expires_in}");
    }
}

/// Whose session it is.
pub(crate) fn person(provider: &str) -> Identity {
    Identity::builder(ISSUER, "alice")
        .provider(provider)
        .build()
}

pub(crate) fn tokens(refresh: &str, id: Option<&str>) -> IssuerTokens {
    let tokens = IssuerTokens::new("access").with_refresh_token(refresh);
    match id {
        Some(id) => tokens.with_id_token(id),
        None => tokens,
    }
}

#[tokio::test]
async fn a_session_follows_what_becomes_of_the_person() {
    let setup = Setup::new();
    let provider = registration().role("admin", ["admins"]);
    let server = setup.server_with([provider], &[1], |login| login);
    let mut browser = Browser::default();
    browser.sign_in(&setup, &server, "").await;
    setup.provider.asked();
    setup.provider.state().claims = json!({"groups": ["admins"]});

    setup.clock.advance(224);
    let identity = server.identity(&browser).await.unwrap();
    assert!(identity.roles().is_empty());
    setup.clock.advance(61);
    let identity = server.identity(&browser).await.unwrap();
    assert_eq!(&*identity.roles()[0], "admin");
    assert_eq!(setup.provider.asked(), ["/token"]);

    // A provider that is down ends nothing; one that says no does.
    setup.clock.advance(600);
    setup.provider.fail("/token", Fault::Answer(503, ""));
    assert!(server.identity(&browser).await.is_some());
    setup.clock.advance(600);
    setup
        .provider
        .fail("/token", Fault::Answer(400, r#"{"error":"invalid_grant"}"#));
    assert!(server.identity(&browser).await.is_none());
    setup.provider.heal();
    setup.clock.advance(600);
    assert!(server.identity(&browser).await.is_none(), "for good");
}

#[tokio::test]
async fn lesson_19_many_requests_at_once_refresh_once() {
    let setup = Setup::new();
    let (one, other) = (setup.server(), setup.server());
    let mut browser = Browser::default();
    browser.sign_in(&setup, &one, "").await;
    setup.provider.asked();
    setup.clock.advance(300);
    let mut waiting = tokio::task::JoinSet::new();
    for place in 0..40 {
        let server = if place % 2 == 0 {
            one.clone()
        } else {
            other.clone()
        };
        let browser = browser.clone();
        waiting.spawn(async move { server.identity(&browser).await.is_some() });
    }
    assert!(
        waiting
            .join_all()
            .await
            .into_iter()
            .all(|signed_in| signed_in)
    );
    let asked = setup.provider.asked();
    let refreshes = asked.iter().filter(|path| *path == "/token").count();
    assert_eq!(refreshes, 1, "the refresh token is good for one time");
}
