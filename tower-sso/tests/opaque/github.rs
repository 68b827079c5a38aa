use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::advance;
use tower_sso::{Reason, Verdicts, Verify as _, VerifyError, opaque::GitHub};

use crate::support::*;

const CHECK: &str = "POST https://api.github.com/applications/api/token";
const USER: &str = "GET https://api.github.com/user";
const EMAILS: &str = "GET https://api.github.com/user/emails";

/// The answers of GitHub's REST API, with the members that matter here.
fn start() -> (Provider, GitHub) {
    let (provider, clock) = (Provider::default(), HandClock::new());
    let checked = json!({"id": 1, "token": "t", "scopes": ["user:email"], "user": {"login": "alice", "id": 583_231}});
    provider.answer(CHECK, 200, &checked);
    let user = json!({"login": "alice", "id": 583_231, "name": "Alice A.", "email": null,
        "avatar_url": "https://avatars.githubusercontent.com/u/583231"});
    provider.answer(USER, 200, &user);
    let emails = json!([
        {"email": "old@example.com", "primary": false, "verified": true, "visibility": null},
        {"email": "alice@example.com", "primary": true, "verified": true, "visibility": "private"}]);
    provider.answer(EMAILS, 200, &emails);
    let github = GitHub::new(
        config(GitHub::ISSUER, &clock),
        "secret",
        Arc::new(provider.clone()),
        Verdicts::new(100),
    );
    (provider, github.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_token_of_ours_names_its_person_with_the_private_address() {
    let (provider, github) = start();
    let alice = github.verify("gho_1").await.unwrap();
    assert_eq!(&**alice.user_id(), "corp|583231");
    assert_eq!(&**alice.subject(), "583231");
    assert_eq!(alice.email(), Some("alice@example.com"));
    assert!(alice.email_verified());
    assert_eq!(alice.name(), Some("Alice A."));
    assert_eq!(&*alice.scopes()[0], "user:email");

    let asked = provider.asked();
    let what: Vec<_> = asked.iter().map(|asked| &*asked.what).collect();
    assert_eq!(what, [CHECK, USER, EMAILS]);
    assert!(asked[0].authorization.starts_with("Basic "));
    assert_eq!(asked[0].body, r#"{"access_token":"gho_1"}"#);
    assert_eq!(asked[1].authorization, "Bearer gho_1");

    github.verify("gho_1").await.unwrap();
    assert!(provider.asked().is_empty(), "remembered");
}

#[tokio::test(start_paused = true)]
async fn d1_16_a_token_of_another_application_names_nobody() {
    for status in [404, 422] {
        let (provider, github) = start();
        provider.answer(CHECK, status, &json!({"message": "Not Found"}));
        assert_eq!(refused(&github, "gho_1").await, invalid(Reason::Unknown));
        let asked = provider.asked();
        assert_eq!(asked.len(), 1, "nothing is asked with it: {asked:?}");
    }
    // Somebody else's profile than that of the token that was checked.
    let (provider, github) = start();
    provider.answer(USER, 200, &json!({"login": "mallory", "id": 666}));
    let refusal = refused(&github, "gho_1").await;
    assert_eq!(refusal, Some(VerifyError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_not_verified_is_not_said_to_be() {
    let (provider, github) = start();
    let emails = json!([{"email": "ceo@example.com", "primary": true, "verified": false}]);
    provider.answer(EMAILS, 200, &emails);
    let alice = github.verify("gho_1").await.unwrap();
    assert!(!alice.email_verified());

    let (provider, github) = start();
    provider.answer(EMAILS, 200, &json!([]));
    assert_eq!(github.verify("gho_1").await.unwrap().email(), None);
}

#[tokio::test(start_paused = true)]
async fn github_that_is_down_or_limits_us_is_not_a_refusal() {
    // The last one is about one person's token only: others are asked about all the same.
    for (what, status, checks) in [
        (CHECK, 500, 1),
        (CHECK, 401, 1),
        (CHECK, 429, 1),
        (EMAILS, 502, 1),
        (USER, 403, 10),
    ] {
        let (provider, github) = start();
        provider.answer(what, status, &json!({}));
        for n in 0..10 {
            let refusal = refused(&github, &format!("gho_{n}")).await;
            assert_eq!(refusal, Some(VerifyError::Unavailable), "{what} {status}");
        }
        let asked = provider.asked();
        let asked = asked.iter().filter(|asked| asked.what == CHECK).count();
        assert_eq!(asked, checks, "{what} {status}");
    }
    let (provider, github) = start();
    provider.answer(CHECK, 500, &json!({}));
    assert!(refused(&github, "gho_1").await.is_some());
    let checked = json!({"scopes": null, "user": {"id": 583_231}});
    provider.answer(CHECK, 200, &checked);
    advance(Duration::from_secs(1)).await;
    assert_eq!(refused(&github, "gho_1").await, None);
}
