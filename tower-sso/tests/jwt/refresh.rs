//! The life of an issuer's keys: found, renewed, withdrawn, and out of reach.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tokio::time::advance;
use tower_sso::{
    HttpError, HttpFuture, Reason, Verify as _, VerifyError,
    jwt::{ConfigError, JwtConfig, JwtVerifier},
};

use crate::support::*;

const COOL_DOWN: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(600);
const STALE_FOR: Duration = Duration::from_secs(24 * 3600);
const UNKNOWN: Verdict = Err(VerifyError::Invalid(Reason::UnknownKey));

/// An issuer with one key `k`, and a verifier that remembers no verdict and has its keys.
async fn started() -> (Issuer, SigningKey, JwtVerifier) {
    let key = SigningKey::p256();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let verifier = issuer.verifier(config().cache_capacity(0));
    verifier.verify(&key.token("k", &claims())).await.unwrap();
    assert_eq!(issuer.asked(), [DISCOVERY, KEYS]);
    (issuer, key, verifier)
}

fn is_same(left: &Verdict, right: &Verdict) -> bool {
    left.as_ref().err() == right.as_ref().err()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_before_a_token_needs_it() {
    let key = SigningKey::p256();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let verifier = issuer.verifier(config());
    // None of these could be the issuer's.
    for token in [
        "nonsense".to_owned(),
        key.token("k", &claims_with("iss", json!("https://other.example"))),
        key.token("k", &claims_with("aud", json!("other"))),
        key.token("k", &claims_with("exp", json!(1))),
        SigningKey::Secret(vec![7; 32]).token("k", &claims()),
    ] {
        assert!(verifier.verify(&token).await.is_err());
    }
    settle().await;
    assert!(issuer.asked().is_empty());

    verifier.verify(&key.token("k", &claims())).await.unwrap();
    assert_eq!(issuer.asked(), [DISCOVERY, KEYS]);
}

#[tokio::test(start_paused = true)]
async fn any_number_of_requests_share_one_fetch() {
    let key = SigningKey::p256();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let verifier = issuer.verifier(config());
    let token = key.token("k", &claims());
    let waiting: Vec<_> = (0..100).map(|_| verifier.verify(&token)).collect();
    for verdict in waiting {
        verdict.await.unwrap();
    }
    assert_eq!(issuer.asked(), [DISCOVERY, KEYS]);
    assert_eq!(verifier.stats().refreshes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_gives_up_does_not_stop_the_others() {
    let key = SigningKey::p256();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let verifier = issuer.verifier(config());
    let token = key.token("k", &claims());
    let (first, second) = (verifier.verify(&token), verifier.verify(&token));
    drop(first);
    second.await.unwrap();
    assert_eq!(issuer.asked(), [DISCOVERY, KEYS]);
}

#[tokio::test(start_paused = true)]
async fn d1_14_a_flood_of_unknown_kids_asks_once_per_cool_down() {
    let (issuer, key, verifier) = started().await;
    let good = key.token("k", &claims());
    let forged = |n: u32| {
        // Well made but for the key: no cheaper check stops it.
        let header = b64(json!({"alg": "ES256", "kid": format!("x{n}")}).to_string());
        format!("{header}.{}.{}", b64(claims().to_string()), b64([7; 64]))
    };

    // Ten thousand in a second, right after a fetch: none asks.
    for n in 0..10_000 {
        assert_eq!(refusal(&verifier, &forged(n)), Some(Reason::UnknownKey));
    }
    assert!(issuer.asked().is_empty());

    // After the cool-down the first asks, and while that goes on valid users notice nothing.
    issuer.answer(KEYS, Answer::Never);
    advance(COOL_DOWN).await;
    let waiting: Vec<_> = (0..10_000).map(|n| verifier.verify(&forged(n))).collect();
    settle().await;
    assert_eq!(issuer.asked(), [KEYS]);
    assert_eq!(refusal(&verifier, &good), None, "at once");

    advance(Duration::from_secs(10)).await;
    for verdict in waiting {
        assert!(is_same(&verdict.await, &UNKNOWN));
    }
    advance(COOL_DOWN - Duration::from_millis(1)).await;
    for n in 0..10_000 {
        assert_eq!(refusal(&verifier, &forged(n)), Some(Reason::UnknownKey));
    }
    settle().await;
    assert!(issuer.asked().is_empty(), "a failure cools down too");
    assert_eq!(refusal(&verifier, &good), None);
}

#[tokio::test(start_paused = true)]
async fn d1_15_rotation_is_noticed_by_the_first_token_with_the_new_key() {
    let (issuer, old, verifier) = started().await;
    let new = SigningKey::ed25519();
    issuer.publish(&[old.jwk("k"), new.jwk("new")]);
    advance(COOL_DOWN).await;

    verifier.verify(&new.token("new", &claims())).await.unwrap();
    assert_eq!(issuer.asked(), [KEYS], "where the keys are is known");
    verifier.verify(&old.token("k", &claims())).await.unwrap();
    settle().await;
    assert!(issuer.asked().is_empty(), "both are in the set");
}

#[tokio::test(start_paused = true)]
async fn d1_15_a_withdrawn_key_ends_with_its_verdicts() {
    let (old, new) = (SigningKey::p256(), SigningKey::p256());
    let issuer = Issuer::new(&[old.jwk("old"), new.jwk("new")]);
    let verifier = issuer.verifier(config());
    let (old_token, new_token) = (old.token("old", &claims()), new.token("new", &claims()));
    verifier.verify(&old_token).await.unwrap();
    verifier.verify(&old_token).await.unwrap();
    assert_eq!(verifier.stats().remembered, 1);

    issuer.publish(&[new.jwk("new")]);
    advance(TTL / 2).await;
    verifier.verify(&new_token).await.unwrap();
    settle().await;
    assert_eq!(
        issuer.asked(),
        [DISCOVERY, KEYS, KEYS],
        "renewed in the background"
    );
    assert!(is_same(&verifier.verify(&old_token).await, &UNKNOWN));
}

#[tokio::test(start_paused = true)]
async fn d1_15_a_withdrawn_key_is_refused_after_its_time_even_when_nobody_came_by() {
    let (issuer, old, verifier) = started().await;
    issuer.publish(&[SigningKey::p256().jwk("new")]);
    advance(TTL).await;
    let verdict = verifier.verify(&old.token("k", &claims())).await;
    assert!(is_same(&verdict, &UNKNOWN), "the issuer is asked first");
}

#[tokio::test(start_paused = true)]
async fn the_same_keys_again_keep_verdicts() {
    let key = SigningKey::p256();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let verifier = issuer.verifier(config());
    let (token, other) = (
        key.token("k", &claims()),
        key.token("k", &claims_with("jti", json!("2"))),
    );
    verifier.verify(&token).await.unwrap();
    advance(TTL / 2).await;
    verifier.verify(&other).await.unwrap();
    settle().await;
    assert_eq!(verifier.stats().refreshes, 2);
    verifier.verify(&token).await.unwrap();
    assert_eq!(verifier.stats().remembered, 1);
}

#[tokio::test(start_paused = true)]
async fn d1_15_whatever_the_issuer_answers_the_old_keys_stay() {
    let other = SigningKey::p256().jwk("other");
    let faults = [
        ("error", Answer::Error),
        ("status 500", Answer::Status(500)),
        ("redirect", Answer::Status(302)),
        ("no content", Answer::Status(204)),
        ("timeout", Answer::Never),
        ("panic", Answer::Panic),
        (
            "html",
            Answer::text("<!doctype html><title>Sign in</title>"),
        ),
        ("nothing", Answer::text("")),
        ("no set", Answer::text("{}")),
        ("not a set", Answer::text(r#"{"keys":{}}"#)),
        ("empty set", Answer::text(r#"{"keys":[]}"#)),
        (
            "useless set",
            Answer::text(r#"{"keys":[{"kty":"oct","k":"AAAA"},1,null]}"#),
        ),
        (
            "huge",
            Answer::text(format!(
                r#"{{"keys":[{other}],"x":"{}"}}"#,
                "x".repeat(1 << 20)
            )),
        ),
        ("broken", Answer::text(r#"{"keys":["#)),
    ];
    for (fault, answer) in faults {
        let (issuer, key, verifier) = started().await;
        issuer.answer(KEYS, answer);
        let verify =
            |n: u32| verifier.verify(&key.token("k", &claims_with("jti", json!(n.to_string()))));

        // At half of the time the background fails, and later the token waits for nobody.
        advance(TTL / 2).await;
        verify(0).await.unwrap();
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(verifier.stats().failed_refreshes, 1, "{fault}");
        advance(TTL).await;
        let token = key.token("k", &claims());
        assert_eq!(refusal(&verifier, &token), None, "{fault}: at once");

        // There is an end to it.
        advance(STALE_FOR).await;
        let verdict = verify(1).await;
        assert_eq!(verdict.err(), Some(VerifyError::Unavailable), "{fault}");

        // And a way back.
        issuer.publish(&[key.jwk("k")]);
        advance(COOL_DOWN).await;
        verify(2)
            .await
            .unwrap_or_else(|error| panic!("{fault}: {error}"));
    }
}

#[tokio::test(start_paused = true)]
async fn d1_15_expired_keys_serve_when_the_issuer_fails_to_answer() {
    let (issuer, key, verifier) = started().await;
    issuer.answer(KEYS, Answer::Never);
    advance(TTL).await;
    // The first waits for the issuer's time-out, no other does.
    verifier.verify(&key.token("k", &claims())).await.unwrap();
    assert_eq!(refusal(&verifier, &key.token("k", &claims())), None);
}

#[tokio::test(start_paused = true)]
async fn without_any_keys_tokens_cannot_be_verified_and_the_pause_doubles() {
    let key = SigningKey::p256();
    let issuer = Issuer::new(&[]);
    issuer.answer(DISCOVERY, Answer::Error);
    let verifier = issuer.verifier(config());
    let token = key.token("k", &claims());
    let unavailable = || async {
        let error = verifier.verify(&token).await.err();
        assert_eq!(error, Some(VerifyError::Unavailable));
        issuer.asked().len()
    };

    for pause in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(unavailable().await, 1, "asks");
        advance(Duration::from_millis(pause * 1000 - 1)).await;
        assert_eq!(unavailable().await, 0, "before {pause} s");
        advance(Duration::from_millis(1)).await;
    }
    assert_eq!(verifier.stats().unavailable, 14);

    issuer.publish(&[key.jwk("k")]);
    issuer.answer(
        DISCOVERY,
        Answer::text(json!({"issuer": ISSUER, "jwks_uri": KEYS}).to_string()),
    );
    verifier.verify(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn d1_15_keys_that_moved_are_found_again() {
    let (issuer, key, verifier) = started().await;
    let moved = "https://cdn.example/keys";
    issuer.answer(KEYS, Answer::Error);
    issuer.answer(
        DISCOVERY,
        Answer::text(json!({"issuer": ISSUER, "jwks_uri": moved}).to_string()),
    );
    let new = SigningKey::p256();
    issuer.answer(
        moved,
        Answer::text(jwk_set(&[key.jwk("k"), new.jwk("new")])),
    );
    let token = new.token("new", &claims());

    advance(COOL_DOWN).await;
    assert!(is_same(&verifier.verify(&token).await, &UNKNOWN));
    advance(COOL_DOWN).await;
    verifier.verify(&token).await.unwrap();
    assert_eq!(issuer.asked(), [KEYS, DISCOVERY, moved]);
}

#[tokio::test(start_paused = true)]
async fn d1_15_a_discovery_document_that_must_not_be_trusted() {
    let key = SigningKey::p256();
    let document =
        |issuer: &str, keys: &str| json!({"issuer": issuer, "jwks_uri": keys}).to_string();
    for text in [
        document("https://other.example", KEYS),
        document("https://issuer.example/", KEYS),
        document("https://ISSUER.example", KEYS),
        document(ISSUER, "http://issuer.example/keys"),
        document(ISSUER, "http://127.0.0.1/keys"),
        document(ISSUER, "http://169.254.169.254/keys"),
        document(ISSUER, "file:///etc/passwd"),
        document(ISSUER, "/keys"),
        document(ISSUER, "https://user@issuer.example/keys"),
        json!({"issuer": ISSUER}).to_string(),
        json!({"jwks_uri": KEYS}).to_string(),
        format!(r#"{{"issuer":"x","issuer":"{ISSUER}","jwks_uri":"{KEYS}"}}"#),
        "<html>".to_owned(),
    ] {
        let issuer = Issuer::new(&[key.jwk("k")]);
        issuer.answer(DISCOVERY, Answer::text(text.clone()));
        let verifier = issuer.verifier(config());
        let error = verifier.verify(&key.token("k", &claims())).await.err();
        assert_eq!(error, Some(VerifyError::Unavailable), "{text}");
        assert_eq!(issuer.asked(), [DISCOVERY], "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuer_on_this_machine_may_speak_plain_http() {
    let key = SigningKey::p256();
    let loopback = "http://127.0.0.1:9000";
    let issuer = Issuer::new(&[]);
    let keys = format!("{loopback}/keys");
    issuer.answer(
        &format!("{loopback}/.well-known/openid-configuration"),
        Answer::text(json!({"issuer": loopback, "jwks_uri": keys}).to_string()),
    );
    issuer.answer(&keys, Answer::text(jwk_set(&[key.jwk("k")])));
    let config = JwtConfig::new(loopback, AUDIENCE).clock(Arc::new(HandClock::new()));
    let verifier = issuer.verifier(config);
    let token = key.token("k", &claims_with("iss", json!(loopback)));
    verifier.verify(&token).await.unwrap();
}

#[test]
fn an_issuer_that_cannot_be_discovered_safely_is_refused() {
    let client =
        |_: Request<Bytes>, _: usize| HttpFuture::ready(Err(HttpError::new("never asked")));
    for issuer in [
        "http://issuer.example",
        "issuer.example",
        "https://issuer.example?x=1",
        "https://issuer.example#x",
        "https://user@issuer.example",
        "ftp://127.0.0.1",
    ] {
        let config = JwtConfig::new(issuer, AUDIENCE);
        assert_eq!(
            JwtVerifier::discover(config, Arc::new(client)).err(),
            Some(ConfigError::Issuer),
            "{issuer}"
        );
    }
}

#[test]
fn outside_of_a_runtime_tokens_cannot_be_verified() {
    let key = SigningKey::p256();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let verifier = issuer.verifier(config());
    assert_eq!(
        verdict(&verifier, &key.token("k", &claims())).err(),
        Some(VerifyError::Unavailable)
    );
}

#[test]
fn a_runtime_that_ends_during_a_fetch_leaves_no_lock_behind() {
    let key = SigningKey::p256();
    let issuer = Issuer::new(&[key.jwk("k")]);
    let verifier = issuer.verifier(config());
    let token = key.token("k", &claims());
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let first = runtime();
    let waiting = {
        let _inside = first.enter();
        verifier.verify(&token)
    };
    drop(first);
    runtime().block_on(async {
        assert_eq!(waiting.await.err(), Some(VerifyError::Unavailable));
        advance(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        verifier.verify(&token).await.unwrap();
    });
}
