//! Verifiers for opaque tokens beside one another.

use std::sync::Arc;

use serde_json::json;
use tower_sso::{
    Issuers, Reason, Verdicts, Verify as _,
    opaque::{GitHub, Introspection},
};

use crate::support::*;

const ISSUER: &str = "https://issuer.example";
const DISCOVERY: &str = "GET https://issuer.example/.well-known/openid-configuration";
const ENDPOINT: &str = "POST https://issuer.example/introspect";
const CHECK: &str = "POST https://api.github.com/applications/api/token";

/// An issuer that introspects, and GitHub; neither knows the token.
fn both(verdicts: &Verdicts) -> (Provider, HandClock, Issuers) {
    let (provider, clock) = (Provider::default(), HandClock::new());
    let client = || Arc::new(provider.clone());
    let document =
        json!({"issuer": ISSUER, "introspection_endpoint": "https://issuer.example/introspect"});
    provider.answer(DISCOVERY, 200, &document);
    provider.answer(ENDPOINT, 200, &json!({"active": false}));
    provider.answer(CHECK, 404, &json!({"message": "Not Found"}));

    let own = config(ISSUER, &clock).primary(true);
    let own = Introspection::new(own, "id", "secret", client(), verdicts.clone());
    let github = config(GitHub::ISSUER, &clock).alias("github");
    let github = GitHub::new(github, "secret", client(), verdicts.clone());
    let issuers = Issuers::builder(verdicts.clone(), client())
        .issuer(config("https://signed.example", &clock).alias("signed"))
        .opaque(Arc::new(own.unwrap()))
        .opaque(Arc::new(github.unwrap()))
        .build();
    (provider, clock, issuers.unwrap())
}

#[tokio::test(start_paused = true)]
async fn one_token_that_comes_a_hundred_times_at_once_is_asked_about_once() {
    let (provider, _, issuers) = both(&Verdicts::new(100));
    let waiting: Vec<_> = (0..100).map(|_| issuers.verify("t")).collect();
    for verdict in waiting {
        assert_eq!(verdict.await.err(), invalid(Reason::Unknown));
    }
    let asked = provider.asked();
    let what: Vec<_> = asked.iter().map(|asked| &*asked.what).collect();
    assert_eq!(what, [DISCOVERY, ENDPOINT, CHECK]);
    assert_eq!(refused(&issuers, "t").await, invalid(Reason::Unknown));
    assert!(provider.asked().is_empty(), "each remembers its refusal");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_of_several_is_no_older_than_a_minute_and_ends_when_forgotten() {
    let verdicts = Verdicts::new(100);
    let (provider, clock, issuers) = both(&verdicts);
    let active = json!({"active": true, "aud": "api", "sub": "alice"});
    provider.answer(ENDPOINT, 200, &active);
    assert_eq!(refused(&issuers, "t").await, None);
    provider.answer(ENDPOINT, 200, &json!({"active": false}));
    clock.pass(59);
    assert_eq!(refused(&issuers, "t").await, None);
    clock.pass(1);
    assert_eq!(refused(&issuers, "t").await, invalid(Reason::Unknown));

    provider.answer(ENDPOINT, 200, &active);
    clock.pass(10);
    assert_eq!(refused(&issuers, "t").await, None);
    provider.answer(ENDPOINT, 200, &json!({"active": false}));
    verdicts.forget(|identity| &**identity.user_id() == "alice");
    assert_eq!(refused(&issuers, "t").await, invalid(Reason::Unknown));
}
