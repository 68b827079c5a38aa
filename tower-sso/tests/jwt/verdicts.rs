//! Verdicts that are remembered, and what is counted.

use std::sync::Arc;

use serde_json::json;
use tower_sso::{Reason, jwt::JwtVerifier};

use crate::support::*;

fn with_clock() -> (JwtVerifier, SigningKey, HandClock) {
    let clock = HandClock::new();
    let (verifier, key) = with_p256(config().clock(Arc::new(clock.clone())));
    (verifier, key, clock)
}

#[test]
fn a_verdict_is_remembered_for_a_minute() {
    let (verifier, key, clock) = with_clock();
    let token = key.token("k", &claims());
    let first = verdict(&verifier, &token).unwrap();
    assert_eq!(verifier.stats().remembered, 0);

    clock.set(NOW + 59);
    let again = verdict(&verifier, &token).unwrap();
    assert!(Arc::ptr_eq(&first, &again), "the same identity");
    assert_eq!(verifier.stats().remembered, 1);

    clock.set(NOW + 60);
    let later = verdict(&verifier, &token).unwrap();
    assert!(!Arc::ptr_eq(&first, &later), "verified anew");
    assert_eq!(verifier.stats().remembered, 1);
    assert_eq!(verifier.stats().verified, 3);
}

#[test]
fn a_verdict_ends_when_the_token_does() {
    let (verifier, key, clock) = with_clock();
    let token = key.token("k", &claims_with("exp", json!(NOW + 5)));
    verdict(&verifier, &token).unwrap();
    clock.set(NOW + 5);
    verdict(&verifier, &token).unwrap();
    assert_eq!(
        verifier.stats().remembered,
        0,
        "in the leeway it is verified each time"
    );
    clock.set(NOW + 65);
    assert_eq!(refusal(&verifier, &token), Some(Reason::Expired));
}

#[test]
fn d1_18_a_clock_that_jumps_changes_verdicts_at_once() {
    let (verifier, key, clock) = with_clock();
    let token = key.token("k", &claims());
    verdict(&verifier, &token).unwrap();
    clock.set(NOW + 86_400);
    assert_eq!(refusal(&verifier, &token), Some(Reason::Expired));
    clock.set(NOW - 86_400);
    assert_eq!(
        refusal(&verifier, &token),
        Some(Reason::NotYetValid),
        "a verdict of the future is none"
    );
    clock.set(NOW);
    assert_eq!(refusal(&verifier, &token), None);
}

#[test]
fn the_whole_token_counts() {
    let (verifier, key, _) = with_clock();
    let token = key.token("k", &claims());
    verdict(&verifier, &token).unwrap();
    let (message, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{message}.{}", b64([7; 64]));
    assert_eq!(refusal(&verifier, &forged), Some(Reason::Signature));
    assert_eq!(verifier.stats().remembered, 0);
}

#[test]
fn refused_tokens_are_not_remembered() {
    let (verifier, key, clock) = with_clock();
    let token = key.token("k", &claims_with("nbf", json!(NOW + 100)));
    assert_eq!(refusal(&verifier, &token), Some(Reason::NotYetValid));
    clock.set(NOW + 100);
    assert_eq!(refusal(&verifier, &token), None);
}

#[test]
fn no_more_verdicts_are_kept_than_allowed() {
    let key = SigningKey::ed25519();
    let set = jwk_set(&[key.jwk("k")]);
    let remembered = |capacity: usize, tokens: u64| {
        let config = config().cache_capacity(capacity);
        let verifier = JwtVerifier::with_jwk_set(config, &set).unwrap();
        let tokens: Vec<String> = (0..tokens)
            .map(|n| key.token("k", &claims_with("jti", json!(n.to_string()))))
            .collect();
        for token in tokens.iter().chain(&tokens) {
            verdict(&verifier, token).unwrap();
        }
        verifier.stats().remembered
    };
    assert_eq!(remembered(0, 10), 0);
    assert_eq!(remembered(100, 10), 10);
    assert!(remembered(10, 1_000) <= 20, "few of a thousand fit");
}

#[test]
fn each_refusal_is_counted_under_its_reason() {
    let (verifier, key, _) = with_clock();
    let bad = key.token("k", &claims_with("aud", json!("other")));
    for _ in 0..3 {
        refusal(&verifier, &bad);
    }
    refusal(&verifier, "nonsense");
    let stats = verifier.stats();
    assert_eq!(stats.refused(Reason::Audience), 3);
    assert_eq!(stats.refused(Reason::Malformed), 1);
    assert_eq!(stats.refused(Reason::Signature), 0);
    assert_eq!((stats.verified, stats.unavailable), (0, 0));
}
