//! Several issuers behind one verifier, and other credentials beside them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tower_sso::{
    Identity, Issuers, IssuersError, Reason, Verdicts, Verify, VerifyError, VerifyFuture,
    jwt::JwtConfig,
};

use crate::support::*;

const OTHER: &str = "https://other.example";
const OTHER_DISCOVERY: &str = "https://other.example/.well-known/openid-configuration";
const OTHER_KEYS: &str = "https://other.example/keys";

fn other() -> JwtConfig {
    JwtConfig::new(OTHER, AUDIENCE)
        .alias("partner")
        .clock(Arc::new(HandClock::new()))
}

/// A network with both issuers, whose keys have the same `kid`.
fn network() -> (Issuer, SigningKey, SigningKey) {
    let (corp, partner) = (SigningKey::p256(), SigningKey::p256());
    let network = Issuer::new(&[corp.jwk("k")]);
    let document = json!({"issuer": OTHER, "jwks_uri": OTHER_KEYS});
    network.answer(OTHER_DISCOVERY, Answer::text(document.to_string()));
    network.answer(OTHER_KEYS, Answer::text(jwk_set(&[partner.jwk("k")])));
    (network, corp, partner)
}

fn both(network: &Issuer, verdicts: Verdicts) -> Issuers {
    Issuers::builder(verdicts, Arc::new(network.clone()))
        .issuer(config().alias("corp"))
        .issuer(other())
        .build()
        .unwrap()
}

/// A verifier that takes one text for somebody, and counts how often it is asked.
fn one_text(text: &'static str, asked: &Arc<AtomicUsize>) -> Arc<dyn Verify> {
    let asked = Arc::clone(asked);
    Arc::new(move |token: &str| {
        asked.fetch_add(1, Ordering::Relaxed);
        let known = Arc::new(Identity::builder("own", text).build());
        VerifyFuture::ready(match token == text {
            true => Ok(known),
            false => Err(VerifyError::Invalid(Reason::Unknown)),
        })
    })
}

async fn refused(verifier: &impl Verify, token: &str) -> Option<Reason> {
    match verifier.verify(token).await {
        Ok(_) => None,
        Err(VerifyError::Invalid(reason)) => Some(reason),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn d1_16_each_token_is_held_against_the_keys_of_the_issuer_that_it_names() {
    let (network, corp, partner) = network();
    let issuers = both(&network, Verdicts::new(100));
    let of_other = claims_with("iss", json!(OTHER));

    let alice = issuers.verify(&corp.token("k", &claims())).await.unwrap();
    assert_eq!(network.asked(), [DISCOVERY, KEYS], "the other is not asked");
    let namesake = issuers
        .verify(&partner.token("k", &of_other))
        .await
        .unwrap();
    assert_eq!(network.asked(), [OTHER_DISCOVERY, OTHER_KEYS]);
    assert_eq!(&**alice.user_id(), "alice");
    assert_eq!(&**namesake.user_id(), "partner|alice");

    // Signed by one in the name of the other, in both directions.
    for mixed in [corp.token("k", &of_other), partner.token("k", &claims())] {
        assert_eq!(refused(&issuers, &mixed).await, Some(Reason::Signature));
    }
    // Of nobody we know, in spellings of somebody that we know.
    for name in [
        "https://third.example",
        "https://issuer.example/",
        "https://ISSUER.example",
        "",
    ] {
        let token = corp.token("k", &claims_with("iss", json!(name)));
        assert_eq!(
            refused(&issuers, &token).await,
            Some(Reason::Issuer),
            "{name}"
        );
    }
    // Of two at once: whoever reads it first must not decide alone.
    let twice = format!(
        r#"{{"iss":"{ISSUER}","iss":"{OTHER}","aud":"{AUDIENCE}","sub":"alice","iat":{NOW},"exp":{}}}"#,
        NOW + 600
    );
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    for key in [&corp, &partner] {
        assert_eq!(
            refused(&issuers, &key.token_of(header, &twice)).await,
            Some(Reason::Malformed)
        );
    }
    assert!(network.asked().is_empty(), "no refusal asks");
}

#[tokio::test(start_paused = true)]
async fn d1_16_the_primary_issuer_names_no_user_of_the_others() {
    let (network, corp, _) = network();
    let issuers = both(&network, Verdicts::new(100));
    let token = corp.token("k", &claims_with("sub", json!("partner|alice")));
    assert_eq!(refused(&issuers, &token).await, Some(Reason::Subject));
}

#[tokio::test(start_paused = true)]
async fn d1_14_a_flood_at_one_issuer_costs_the_other_nothing() {
    let (network, corp, partner) = network();
    let issuers = both(&network, Verdicts::new(100));
    let good = corp.token("k", &claims());
    issuers.verify(&good).await.unwrap();
    let of_other = claims_with("iss", json!(OTHER));
    issuers
        .verify(&partner.token("k", &of_other))
        .await
        .unwrap();
    network.asked();

    network.answer(OTHER_KEYS, Answer::Never);
    for n in 0..10_000 {
        let forged = format!(
            "{}.{}.{}",
            b64(json!({"alg": "ES256", "kid": format!("x{n}")}).to_string()),
            b64(of_other.to_string()),
            b64([7; 64])
        );
        assert_eq!(refused(&issuers, &forged).await, Some(Reason::UnknownKey));
    }
    assert!(network.asked().is_empty(), "within the cool-down");
    assert_eq!(refusal(&issuers, &good), None, "at once");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_shared_and_forgotten_for_all() {
    let (network, corp, partner) = network();
    let verdicts = Verdicts::new(100);
    let issuers = both(&network, verdicts.clone());
    let tokens = [
        corp.token("k", &claims()),
        partner.token("k", &claims_with("iss", json!(OTHER))),
    ];
    for token in &tokens {
        let (first, second) = (issuers.verify(token).await, verdict(&issuers, token));
        assert!(Arc::ptr_eq(&first.unwrap(), &second.unwrap()), "remembered");
    }
    let again = verdict(&issuers, &tokens[1]).unwrap();
    verdicts.forget(|identity| &**identity.user_id() == "partner|alice");
    assert!(!Arc::ptr_eq(
        &again,
        &verdict(&issuers, &tokens[1]).unwrap()
    ));
}

#[tokio::test(start_paused = true)]
async fn tokens_go_to_the_verifier_of_their_kind_only() {
    let (network, ..) = network();
    let asked: [Arc<AtomicUsize>; 3] = Default::default();
    let issuers = Issuers::builder(Verdicts::new(100), Arc::new(network.clone()))
        .issuer(config())
        .prefixed("pat_", one_text("pat_1", &asked[0]))
        .opaque(one_text("first", &asked[1]))
        .opaque(one_text("second", &asked[2]))
        .build()
        .unwrap();
    let count = || {
        asked
            .each_ref()
            .map(|asked| asked.swap(0, Ordering::Relaxed))
    };

    assert_eq!(refused(&issuers, "pat_1").await, None);
    assert_eq!(refused(&issuers, "pat_x.y.z").await, Some(Reason::Unknown));
    assert_eq!(count(), [2, 0, 0]);
    assert_eq!(refused(&issuers, "second").await, None);
    assert_eq!(count(), [0, 1, 1]);
    assert_eq!(refused(&issuers, "nobody").await, Some(Reason::Unknown));
    assert_eq!(count(), [0, 1, 1]);
    // The example of RFC 7662, section 2.1.
    let dotted = refused(&issuers, "mF_9.B5f-4.1JqM").await;
    assert_eq!(dotted, Some(Reason::Unknown));
    assert_eq!(count(), [0, 1, 1]);
    let signed = refused(&issuers, "eyJ.b.c").await;
    assert_eq!(signed, Some(Reason::Malformed));
    // Too long, and deeply nested: refused before anything is read.
    let header = b64(r#"{"alg":"ES256","kid":"k"}"#);
    let deep = format!("{header}.{}.{}", b64("[".repeat(10_000)), b64([7; 64]));
    for long in [
        "x".repeat(64 * 1024),
        format!("pat_{}", "x".repeat(64 * 1024)),
    ] {
        assert_eq!(refused(&issuers, &long).await, Some(Reason::TooLong));
    }
    assert_eq!(refused(&issuers, &deep).await, Some(Reason::Malformed));
    assert_eq!(count(), [0, 0, 0]);
    assert!(network.asked().is_empty());
}

/// A verifier that answers after a while, and counts how often it is asked.
fn slow(
    answer: impl Fn(&str) -> Result<Arc<Identity>, VerifyError> + Send + Sync + 'static,
    asked: &Arc<AtomicUsize>,
) -> Arc<dyn Verify> {
    let asked = Arc::clone(asked);
    Arc::new(move |token: &str| {
        asked.fetch_add(1, Ordering::Relaxed);
        let answer = answer(token);
        VerifyFuture::boxed(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer
        })
    })
}

#[tokio::test(start_paused = true)]
async fn each_opaque_verifier_is_asked_once_about_a_token_that_comes_often_at_once() {
    let (network, ..) = network();
    let known = |token: &str| match token {
        "alice" => Ok(Arc::new(Identity::builder("own", "alice").build())),
        "down" => Err(VerifyError::Unavailable),
        _ => Err(Reason::Unknown.into()),
    };
    let unknown = |token: &str| match token {
        "down" => Err(Reason::Unknown.into()),
        _ => Err(VerifyError::Unavailable),
    };
    let asked: [Arc<AtomicUsize>; 3] = Default::default();
    let issuers = Issuers::builder(Verdicts::new(100), Arc::new(network.clone()))
        .issuer(config())
        .opaque(slow(unknown, &asked[0]))
        .opaque(slow(known, &asked[1]))
        .opaque(slow(unknown, &asked[2]))
        .build()
        .unwrap();
    let count = || {
        asked
            .each_ref()
            .map(|asked| asked.swap(0, Ordering::Relaxed))
    };
    let often = |token: &str| -> Vec<_> { (0..100).map(|_| issuers.verify(token)).collect() };

    let mut waiting = often("alice");
    // Who asked first does not wait for the answer.
    drop(waiting.remove(0));
    for verdict in waiting {
        let alice = verdict.await.unwrap();
        assert_eq!(&**alice.user_id(), "alice", "though the first is down");
    }
    assert_eq!(count(), [1, 1, 0]);
    assert_eq!(refused(&issuers, "alice").await, None);
    assert_eq!(count(), [0, 0, 0], "remembered");

    let (bob, carol) = (often("bob"), often("carol"));
    for verdict in bob.into_iter().chain(carol) {
        let error = verdict.await.err();
        assert_eq!(error, Some(VerifyError::Unavailable), "it may be known");
    }
    assert_eq!(count(), [2, 2, 2], "one for each token");
    for verdict in often("down") {
        assert_eq!(verdict.await.err(), Some(VerifyError::Unavailable));
    }
    assert_eq!(count(), [1, 1, 1]);
    let again = issuers.verify("down").await.err();
    assert_eq!(again, Some(VerifyError::Unavailable));
    assert_eq!(count(), [1, 1, 1], "not remembered");
}

#[test]
fn issuers_whose_users_would_be_one_another_are_refused() {
    let (network, ..) = network();
    let error = |configs: [JwtConfig; 2]| {
        let [first, second] = configs;
        let client = Arc::new(network.clone());
        let builder = Issuers::builder(Verdicts::default(), client);
        builder.issuer(first).issuer(second).build().err()
    };
    let repeated = |name: &str| Some(IssuersError::Repeated(name.into()));
    assert_eq!(error([config(), config().primary(false)]), repeated(ISSUER));
    assert_eq!(error([config().alias("partner"), other()]), repeated(OTHER));
    let second = Some(IssuersError::SecondPrimary(OTHER.into()));
    assert_eq!(error([config(), other().primary(true)]), second);
    assert_eq!(error([config(), other()]), None);
}
