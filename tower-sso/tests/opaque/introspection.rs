use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::advance;
use tower_sso::{Reason, Verdicts, Verify as _, VerifyError, opaque::Introspection};

use crate::support::*;

const ISSUER: &str = "https://issuer.example";
const DISCOVERY: &str = "GET https://issuer.example/.well-known/openid-configuration";
const ENDPOINT: &str = "POST https://issuer.example/introspect";

fn active() -> Value {
    json!({"active": true, "iss": ISSUER, "aud": "api", "sub": "alice", "exp": NOW + 300, "scope": "read write"})
}

fn with(name: &str, value: Value) -> Value {
    let mut answer = active();
    answer[name] = value;
    answer
}

fn start() -> (Provider, HandClock, Verdicts, Introspection) {
    let (provider, clock, verdicts) =
        (Provider::default(), HandClock::new(), Verdicts::new(10_000));
    let document =
        json!({"issuer": ISSUER, "introspection_endpoint": "https://issuer.example/introspect"});
    provider.answer(DISCOVERY, 200, &document);
    provider.answer(ENDPOINT, 200, &active());
    let verifier = Introspection::new(
        config(ISSUER, &clock).primary(true),
        "gate:way",
        "s%cret",
        Arc::new(provider.clone()),
        verdicts.clone(),
    );
    (provider, clock, verdicts, verifier.unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_active_token_is_asked_about_once_a_minute() {
    let (provider, clock, verdicts, verifier) = start();
    let waiting: Vec<_> = (0..100).map(|_| verifier.verify("t&1")).collect();
    for verdict in waiting {
        let identity = verdict.await.unwrap();
        assert_eq!(&**identity.user_id(), "alice");
        assert_eq!(identity.scopes().len(), 2);
    }
    let asked = provider.asked();
    let [discovery, question] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert_eq!((&*discovery.what, &*question.what), (DISCOVERY, ENDPOINT));
    assert_eq!(discovery.authorization, "");
    // RFC 6749 section 2.3.1: `gate%3Away:s%25cret`.
    assert_eq!(question.authorization, "Basic Z2F0ZSUzQXdheTpzJTI1Y3JldA==");
    assert_eq!(question.body, "token=t%261&token_type_hint=access_token");

    clock.pass(59);
    assert_eq!(refused(&verifier, "t&1").await, None);
    assert!(provider.asked().is_empty());
    clock.pass(1);
    assert_eq!(refused(&verifier, "t&1").await, None);
    assert_eq!(provider.asked().len(), 1);
    verdicts.forget(|identity| &**identity.user_id() == "alice");
    provider.answer(ENDPOINT, 200, &json!({"active": false}));
    assert_eq!(refused(&verifier, "t&1").await, invalid(Reason::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_verdict_ends_with_its_token() {
    let (provider, clock, _, verifier) = start();
    provider.answer(ENDPOINT, 200, &with("exp", json!(NOW + 10)));
    assert_eq!(refused(&verifier, "t").await, None);
    clock.pass(100);
    assert_eq!(refused(&verifier, "t").await, invalid(Reason::Expired));
}

#[tokio::test(start_paused = true)]
async fn what_the_issuer_says_is_held_against_the_rules() {
    let (provider, .., verifier) = start();
    for (n, (answer, reason)) in [
        (json!({"active": false}), Reason::Unknown),
        (with("active", json!("true")), Reason::Claim),
        (json!({"aud": "api", "sub": "alice"}), Reason::Claim),
        (with("aud", json!("other")), Reason::Audience),
        (with("aud", json!([])), Reason::Audience),
        (with("aud", Value::Null), Reason::Claim),
        (with("iss", json!("https://other.example")), Reason::Issuer),
        (with("exp", json!(NOW - 3600)), Reason::Expired),
        (with("nbf", json!(NOW + 3600)), Reason::NotYetValid),
        (with("sub", json!("")), Reason::Subject),
        // d1_20: bound to a key that the sender has not shown.
        (with("cnf", json!({"jkt": "x"})), Reason::Bound),
    ]
    .into_iter()
    .enumerate()
    {
        provider.answer(ENDPOINT, 200, &answer);
        let refusal = refused(&verifier, &format!("t{n}")).await;
        assert_eq!(refusal, invalid(reason), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_remembered_too() {
    let (provider, clock, _, verifier) = start();
    provider.answer(ENDPOINT, 200, &json!({"active": false}));
    for _ in 0..1000 {
        assert_eq!(refused(&verifier, "t").await, invalid(Reason::Unknown));
    }
    assert_eq!(provider.asked().len(), 2);
    clock.pass(10);
    advance(Duration::from_secs(10)).await;
    provider.answer(ENDPOINT, 200, &active());
    assert_eq!(refused(&verifier, "t").await, None);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_down_is_spared_and_found_again() {
    let (provider, .., verifier) = start();
    assert_eq!(refused(&verifier, "known").await, None);
    for (status, answer) in [
        (500, json!({})),
        (401, json!({"error": "invalid_client"})),
        (200, json!("nonsense")),
        (0, json!({})),
    ] {
        provider.answer(ENDPOINT, status, &answer);
        advance(Duration::from_secs(60)).await;
        provider.asked();
        for n in 0..100 {
            let refusal = refused(&verifier, &format!("{status} {n}")).await;
            assert_eq!(refusal, Some(VerifyError::Unavailable));
        }
        assert_eq!(provider.asked().len(), 1, "{status}");
        assert_eq!(refused(&verifier, "known").await, None, "remembered");
    }
    provider.answer(ENDPOINT, 200, &active());
    advance(Duration::from_secs(30)).await;
    assert_eq!(refused(&verifier, "new").await, None);
}

#[tokio::test(start_paused = true)]
async fn d7_68_the_endpoint_is_the_issuers_own_business_but_not_any_address() {
    for endpoint in [
        json!("http://issuer.example/introspect"),
        json!("file:///etc/passwd"),
        json!(null),
    ] {
        let (provider, .., verifier) = start();
        let document = json!({"issuer": ISSUER, "introspection_endpoint": endpoint});
        provider.answer(DISCOVERY, 200, &document);
        let refusal = refused(&verifier, "t").await;
        assert_eq!(refusal, Some(VerifyError::Unavailable), "{endpoint}");
        assert_eq!(provider.asked().len(), 1, "{endpoint}");
    }
    let (provider, .., verifier) = start();
    let document = json!({"issuer": "https://other.example", "introspection_endpoint": "https://issuer.example/introspect"});
    provider.answer(DISCOVERY, 200, &document);
    let refusal = refused(&verifier, "t").await;
    assert_eq!(
        refusal,
        Some(VerifyError::Unavailable),
        "another's document"
    );
}
