//! Verifiers for opaque tokens beside one another.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use serde_json::json;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_sso::{
    ClientAddress, Issuers, Reason, SsoLayer, Verdicts, Verify as _, VerifyError,
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

/// The status of a request with this token from there.
async fn status(issuers: &Issuers, token: &str, address: &str) -> StatusCode {
    let service =
        SsoLayer::new(Arc::new(issuers.clone())).layer(service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(()))
        }));
    let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}"));
    let address: IpAddr = address.parse().unwrap();
    let request = request.extension(ClientAddress(address)).body(()).unwrap();
    service.oneshot(request).await.unwrap().status()
}

#[tokio::test(start_paused = true)]
async fn d1_20_ten_thousand_unknown_tokens_of_one_address_cost_few_questions_in_a_cool_down() {
    let (provider, _, issuers) = both(&Verdicts::new(100_000));
    let active = json!({"active": true, "aud": "api", "sub": "alice"});
    provider.answer(ENDPOINT, 200, &active);
    assert_eq!(status(&issuers, "alice", "203.0.113.1").await, 200);
    provider.answer(ENDPOINT, 200, &json!({"active": false}));
    provider.asked();

    let mut seen = Vec::new();
    for n in 0..10_000 {
        seen.push(status(&issuers, &format!("unknown-{n}"), "203.0.113.1").await);
    }
    let refused = seen.iter().filter(|status| **status == 401).count();
    assert_eq!(refused, 16);
    assert!(seen.iter().skip(16).all(|status| *status == 503));
    let asked = provider.asked();
    let asked = |what| asked.iter().filter(|asked| asked.what == what).count();
    assert_eq!((asked(ENDPOINT), asked(CHECK)), (16, 16));

    // Who is known goes on, also from there; and whoever comes from elsewhere.
    assert_eq!(status(&issuers, "alice", "203.0.113.1").await, 200);
    assert_eq!(provider.asked().len(), 0);
    provider.answer(
        ENDPOINT,
        200,
        &json!({"active": true, "aud": "api", "sub": "bob"}),
    );
    assert_eq!(status(&issuers, "bob", "203.0.113.2").await, 200);
    assert_eq!(status(&issuers, "carol", "203.0.113.1").await, 503);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(status(&issuers, "carol", "203.0.113.1").await, 200);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_says_where_tokens_come_from_each_is_asked_about() {
    let (provider, _, issuers) = both(&Verdicts::new(1_000));
    for n in 0..100 {
        let verdict = issuers.verify(&format!("unknown-{n}")).await;
        assert_eq!(verdict.err(), Some(VerifyError::Invalid(Reason::Unknown)));
    }
    assert_eq!(provider.count(ENDPOINT), 100);
}
