use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tokio::time::advance;
use tower_sso::{
    Reason, Verdicts, Verify as _, VerifyError,
    jwt::{ConfigError, JwtConfig},
    opaque::GitHub,
};

use crate::support::*;

const CHECK: &str = "POST https://api.github.com/applications/api/token";
const USER: &str = "GET https://api.github.com/user";
const EMAILS: &str = "GET https://api.github.com/user/emails";

/// The answers of GitHub's REST API, with the members that matter here.
fn start() -> (Provider, GitHub) {
    let (provider, github, ..) = start_with_clock();
    (provider, github)
}

fn start_with_clock() -> (Provider, GitHub, HandClock, Verdicts) {
    let (provider, clock, verdicts) = (Provider::default(), HandClock::new(), Verdicts::new(100));
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
        verdicts.clone(),
    );
    (provider, github.unwrap(), clock, verdicts)
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

#[tokio::test(start_paused = true)]
async fn one_persons_limit_or_suspension_keeps_nobody_else_out() {
    let message = |text: &str| json!({ "message": text }).to_string();
    let limited = message("API rate limit exceeded for user ID 583231.");
    let secondary = message("You have exceeded a secondary rate limit.");
    let suspended = message("Sorry. Your account was suspended.");
    let retry: &[_] = &[("retry-after", "60")];
    let none_left: &[_] = &[("x-ratelimit-remaining", "0")];
    for (what, status, headers, text) in [
        (USER, 403, none_left, &limited),
        (USER, 403, &[], &suspended),
        (USER, 403, &[], &secondary),
        (USER, 404, &[], &suspended),
        (USER, 429, retry, &secondary),
        (EMAILS, 403, none_left, &limited),
        (EMAILS, 403, retry, &secondary),
        (EMAILS, 403, &[], &secondary),
        (EMAILS, 429, &[], &secondary),
        (USER, 200, &[], &message("no profile")),
        (EMAILS, 200, &[], &message("no addresses")),
        (CHECK, 200, &[], &message("nothing known")),
    ] {
        let (provider, github) = start();
        provider.answer_with(what, status, headers, text);
        for _ in 0..10 {
            let refusal = refused(&github, "gho_limited").await;
            let case = format!("{what} {status} {text}");
            assert_eq!(refusal, Some(VerifyError::Unavailable), "{case}");
        }
        let asked = provider.count(CHECK);
        assert_eq!(asked, 1, "not again at once: {what} {status} {text}");

        let (well, _) = start();
        well.pass_on_to(&provider);
        assert_eq!(refused(&github, "gho_other").await, None, "{what} {status}");
        let still = refused(&github, "gho_limited").await;
        assert_eq!(still, Some(VerifyError::Unavailable));
        advance(Duration::from_secs(10)).await;
        assert_eq!(refused(&github, "gho_limited").await, None, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_github_cannot_be_asked_about_keeps_nobody_else_out() {
    for status in [400, 404, 413, 422] {
        let (provider, github) = start();
        provider.answer(CHECK, status, &json!({"message": "Problems parsing JSON"}));
        let refusal = refused(&github, "odd").await;
        assert_eq!(refusal, invalid(Reason::Unknown), "{status}");
        start().0.pass_on_to(&provider);
        assert_eq!(refused(&github, "gho_1").await, None, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_without_the_scope_for_addresses_has_none() {
    let text = json!({"message": "Resource not accessible by integration"});
    for status in [403, 404] {
        let (provider, github) = start();
        // What the person shows everybody is not an address that GitHub answers for.
        let user =
            json!({"login": "alice", "id": 583_231, "name": "", "email": "public@example.com"});
        provider.answer(USER, 200, &user);
        let left: &[_] = &[("x-ratelimit-remaining", "4999")];
        provider.answer_with(EMAILS, status, left, &text.to_string());
        let alice = github.verify("gho_1").await.unwrap();
        assert_eq!(alice.email(), None, "{status}");
        assert!(!alice.email_verified());
        assert_eq!(alice.name(), Some("alice"), "the login in place of a name");
        assert_eq!(alice.picture(), None);
        assert!(!alice.claims().contains("public@"), "{}", alice.claims());
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_refused_when_its_verdict_is_over_or_forgotten() {
    let (provider, github, clock, verdicts) = start_with_clock();
    assert_eq!(refused(&github, "gho_1").await, None);
    provider.answer(CHECK, 404, &json!({"message": "Not Found"}));
    clock.pass(59);
    assert_eq!(refused(&github, "gho_1").await, None);
    clock.pass(1);
    assert_eq!(refused(&github, "gho_1").await, invalid(Reason::Unknown));

    let (provider, github, _, verdicts_of_two) = start_with_clock();
    assert_eq!(refused(&github, "gho_1").await, None);
    provider.answer(CHECK, 404, &json!({"message": "Not Found"}));
    verdicts.forget(|_| true);
    assert_eq!(refused(&github, "gho_1").await, None, "others' verdicts");
    verdicts_of_two.forget(|identity| &**identity.user_id() == "corp|583231");
    assert_eq!(refused(&github, "gho_1").await, invalid(Reason::Unknown));

    // Between two of the questions.
    for what in [USER, EMAILS] {
        let (provider, github) = start();
        provider.answer(what, 401, &json!({"message": "Bad credentials"}));
        let refusal = refused(&github, "gho_1").await;
        assert_eq!(refusal, invalid(Reason::Unknown), "{what}");
        start().0.pass_on_to(&provider);
        assert_eq!(refused(&github, "gho_2").await, None, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_verdict_ends_with_its_token() {
    let checked = |ends: Value| json!({"scopes": [], "user": {"id": 583_231}, "expires_at": ends});
    // `NOW` is 2023-11-14T22:13:20Z.
    let (provider, github, clock, _) = start_with_clock();
    provider.answer(CHECK, 200, &checked(json!("2023-11-14T22:13:30Z")));
    let alice = github.verify("gho_1").await.unwrap();
    let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 10);
    assert_eq!(alice.expires_at(), Some(ends));
    clock.pass(9);
    provider.asked();
    assert_eq!(refused(&github, "gho_1").await, None);
    assert_eq!(provider.count(CHECK), 0, "remembered");
    clock.pass(1);
    provider.answer(CHECK, 404, &json!({"message": "Not Found"}));
    assert_eq!(refused(&github, "gho_1").await, invalid(Reason::Unknown));

    let (provider, github) = start();
    provider.answer(CHECK, 200, &checked(json!("2023-11-14T22:13:20Z")));
    assert_eq!(refused(&github, "gho_1").await, invalid(Reason::Expired));
    provider.answer(CHECK, 200, &checked(json!(null)));
    let endless = github.verify("gho_2").await.unwrap();
    assert_eq!(endless.expires_at(), None);
    for (n, odd) in [json!("tomorrow"), json!(1_700_000_000), json!("")]
        .into_iter()
        .enumerate()
    {
        provider.answer(CHECK, 200, &checked(odd.clone()));
        let refusal = refused(&github, &format!("odd{n}")).await;
        assert_eq!(refusal, Some(VerifyError::Unavailable), "{odd}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_token_that_comes_a_hundred_times_at_once_is_asked_about_once() {
    let (provider, github) = start();
    let waiting: Vec<_> = (0..100).map(|_| github.verify("gho_1")).collect();
    for verdict in waiting {
        assert_eq!(verdict.await.err(), None);
    }
    let asked = provider.asked();
    let what: Vec<_> = asked.iter().map(|asked| &*asked.what).collect();
    assert_eq!(what, [CHECK, USER, EMAILS]);
}

#[test]
fn only_addresses_that_nobody_can_listen_to_are_asked() {
    let clock = HandClock::new();
    let error = |api: &str, id: &str| {
        let config = JwtConfig::new(GitHub::ISSUER, id).clock(Arc::new(clock.clone()));
        let client = Arc::new(Provider::default());
        GitHub::at(api, config, "secret", client, Verdicts::new(1)).err()
    };
    for api in [
        "http://github.example.com/api/v3",
        "http://10.0.0.1/api/v3",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "https://user@github.example.com",
        "https://github.example.com/#",
        "https://github.example.com/?a=b",
        "ftp://github.example.com",
        "github.example.com",
        "/api/v3",
        "",
    ] {
        assert_eq!(error(api, "api"), Some(ConfigError::Issuer), "{api}");
    }
    for api in [
        GitHub::API,
        "https://github.example.com/api/v3",
        "http://127.0.0.1:3000",
        "http://[::1]:3000/api/v3",
        "http://localhost:3000",
    ] {
        assert_eq!(error(api, "Iv1.8a61f9b3a7aba766"), None, "{api}");
        for id in ["", "a/b", "a b", "a?b", "a%2fb"] {
            assert_eq!(error(api, id), Some(ConfigError::Audience), "{id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_is_given_by_what_github_says() {
    let (provider, _, clock, verdicts) = start_with_clock();
    let config = config(GitHub::ISSUER, &clock)
        .roles_claim("sub")
        .role("admin", ["583231"])
        .role("auditor", ["1"]);
    let github = GitHub::new(config, "secret", Arc::new(provider), verdicts).unwrap();
    let alice = github.verify("gho_1").await.unwrap();
    let roles: Vec<_> = alice.roles().iter().map(|role| &**role).collect();
    assert_eq!(roles, ["admin"]);
}
