use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, advance};
use tower_sso::{
    Reason, Verdicts, Verify as _, VerifyError,
    jwt::{ConfigError, JwtConfig},
    opaque::Introspection,
};

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
    provider.answer(ENDPOINT, 200, &active());
    clock.pass(9);
    assert_eq!(refused(&verifier, "t").await, invalid(Reason::Unknown));
    clock.pass(1);
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
        assert_eq!(provider.count(ENDPOINT), 1, "{status}");
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

#[tokio::test(start_paused = true)]
async fn d1_20_a_token_of_another_kind_is_no_access_token_though_it_is_active() {
    let (provider, .., verifier) = start();
    for (n, (name, kind)) in [
        ("token_type", json!("refresh_token")),
        ("token_type", json!("N_A")),
        ("token_type", json!("DPoP")),
        ("token_type", json!("mac")),
        ("token_type", json!("")),
        ("token_type", json!("id_token")),
        ("token_use", json!("refresh_token")),
        ("token_use", json!("refresh")),
        ("token_use", json!("id")),
        ("typ", json!("Refresh")),
        ("typ", json!("Offline")),
        ("typ", json!("ID")),
        ("typ", json!("logout+jwt")),
    ]
    .into_iter()
    .enumerate()
    {
        provider.answer(ENDPOINT, 200, &with(name, kind.clone()));
        let refusal = refused(&verifier, &format!("t{n}")).await;
        assert_eq!(refusal, invalid(Reason::Type), "{name}: {kind}");
    }
    for (n, kind) in [json!(null), json!(["Bearer"]), json!(true)]
        .into_iter()
        .enumerate()
    {
        provider.answer(ENDPOINT, 200, &with("token_type", kind.clone()));
        let refusal = refused(&verifier, &format!("u{n}")).await;
        assert_eq!(refusal, invalid(Reason::Claim), "{kind}");
    }
    // Nothing calls it an ID token, a logout token; it has what only they have.
    for (n, name) in ["at_hash", "c_hash", "events"].into_iter().enumerate() {
        let value = match name {
            "events" => json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
            _ => json!("77QmUPtjPfzWtF2AnpK9RQ"),
        };
        provider.answer(ENDPOINT, 200, &with(name, value));
        let refusal = refused(&verifier, &format!("w{n}")).await;
        assert_eq!(refusal, invalid(Reason::Type), "{name}");
    }
    // RFC 7662 section 2.2 leaves the case to RFC 6749 section 5.1; the others are what issuers say.
    for (n, (name, kind)) in [
        ("token_type", "Bearer"),
        ("token_type", "bearer"),
        ("token_type", "access_token"),
        ("token_use", "access_token"),
        ("token_use", "access"),
        ("typ", "Bearer"),
        ("typ", "at+jwt"),
    ]
    .into_iter()
    .enumerate()
    {
        provider.answer(ENDPOINT, 200, &with(name, json!(kind)));
        let refusal = refused(&verifier, &format!("v{n}")).await;
        assert_eq!(refusal, None, "{name}: {kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn d1_20_members_that_are_wrong_or_missing_refuse() {
    let without = |name: &str| {
        let mut answer = active();
        answer.as_object_mut().unwrap().remove(name);
        answer
    };
    let (provider, .., verifier) = start();
    for (n, (answer, reason)) in [
        (without("active"), Reason::Claim),
        (with("active", json!(null)), Reason::Claim),
        (with("active", json!(1)), Reason::Claim),
        (with("active", json!("false")), Reason::Claim),
        (with("active", json!([true])), Reason::Claim),
        (without("aud"), Reason::Claim),
        (with("aud", json!("API")), Reason::Audience),
        (with("aud", json!("api ")), Reason::Audience),
        (
            with("aud", json!(["other", "ap", "apis"])),
            Reason::Audience,
        ),
        (with("aud", json!(["api", 1])), Reason::Claim),
        (with("aud", json!({"api": true})), Reason::Claim),
        (
            with("iss", json!("https://issuer.example/")),
            Reason::Issuer,
        ),
        (with("iss", json!("https://ISSUER.example")), Reason::Issuer),
        (with("iss", json!(null)), Reason::Claim),
        // A minute of leeway, no second more.
        (with("exp", json!(NOW - 60)), Reason::Expired),
        (with("exp", json!((NOW + 300).to_string())), Reason::Claim),
        (with("exp", json!(-1)), Reason::Claim),
        (with("exp", json!(null)), Reason::Claim),
        (with("nbf", json!(NOW + 61)), Reason::NotYetValid),
        (with("iat", json!(NOW + 61)), Reason::NotYetValid),
        (without("sub"), Reason::Claim),
        (with("sub", json!(null)), Reason::Claim),
        (with("sub", json!(7)), Reason::Claim),
        (with("sub", json!(" alice")), Reason::Subject),
        (with("sub", json!("ali\u{200b}ce")), Reason::Subject),
        (with("sub", json!("a".repeat(256))), Reason::Subject),
        (with("cnf", json!({"x5t#S256": "x"})), Reason::Bound),
        (with("cnf", json!(null)), Reason::Bound),
        (with("scope", json!(["read"])), Reason::Claim),
    ]
    .into_iter()
    .enumerate()
    {
        provider.answer(ENDPOINT, 200, &answer);
        let refusal = refused(&verifier, &format!("t{n}")).await;
        assert_eq!(refusal, invalid(reason), "{answer}");
    }
    // Of two that contradict one another neither counts.
    for (n, twice) in [
        r#"{"active":false,"active":true,"aud":"api","sub":"alice"}"#,
        r#"{"active":true,"aud":"api","sub":"alice","sub":"bob"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        provider.answer_with(ENDPOINT, 200, &[], twice);
        let refusal = refused(&verifier, &format!("u{n}")).await;
        assert_eq!(refusal, invalid(Reason::Malformed), "{twice}");
    }
    for (n, answer) in [
        without("iss"),
        without("exp"),
        with("exp", json!(NOW - 59)),
        with("nbf", json!(NOW + 60)),
        with("aud", json!(["other", "api"])),
    ]
    .into_iter()
    .enumerate()
    {
        provider.answer(ENDPOINT, 200, &answer);
        let refusal = refused(&verifier, &format!("v{n}")).await;
        assert_eq!(refusal, None, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn d1_20_a_verdict_is_of_the_whole_token() {
    let (provider, .., verifier) = start();
    let token = "a".repeat(4096);
    assert_eq!(refused(&verifier, &token).await, None);
    provider.answer(ENDPOINT, 200, &json!({"active": false}));
    for other in [
        token.replacen('a', "b", 1),
        format!("{}b", "a".repeat(4095)),
        "a".repeat(4095),
        "a".repeat(4097),
        "A".repeat(4096),
    ] {
        let refusal = refused(&verifier, &other).await;
        assert_eq!(refusal, invalid(Reason::Unknown), "{other}");
    }
    assert_eq!(refused(&verifier, &token).await, None);
}

#[tokio::test(start_paused = true)]
async fn d1_20_a_token_that_cannot_be_asked_about_is_refused_and_harms_no_other() {
    for status in [400, 413, 422] {
        let (provider, .., verifier) = start();
        let error = json!({"error": "invalid_request"});
        provider.answer(ENDPOINT, status, &error);
        let refusal = refused(&verifier, "odd").await;
        assert_eq!(refusal, invalid(Reason::Unknown), "{status}");
        provider.answer(ENDPOINT, 200, &active());
        assert_eq!(refused(&verifier, "t").await, None, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_has_moved_is_found_again() {
    const MOVED: &str = "POST https://other.issuer.example/introspect";
    for (status, what) in [
        (301, "moved"),
        (308, "moved"),
        (404, "not there"),
        (410, "gone"),
        (500, "shut down"),
        (0, "nobody answers"),
    ] {
        let (provider, .., verifier) = start();
        assert_eq!(refused(&verifier, "known").await, None);
        let elsewhere = "https://other.issuer.example/introspect";
        let document = json!({"issuer": ISSUER, "introspection_endpoint": elsewhere});
        provider.answer(DISCOVERY, 200, &document);
        provider.answer_with(ENDPOINT, status, &[("location", elsewhere)], "");
        provider.answer(MOVED, 200, &active());
        let refusal = refused(&verifier, "t").await;
        assert_eq!(refusal, Some(VerifyError::Unavailable), "{what}");
        assert_eq!(provider.count(MOVED), 0, "no redirect is followed");

        advance(Duration::from_secs(1)).await;
        assert_eq!(refused(&verifier, "t").await, None, "{what}");
        assert_eq!(refused(&verifier, "u").await, None, "{what}");
        let asked = provider.asked();
        let what: Vec<_> = asked.iter().map(|asked| &*asked.what).collect();
        assert_eq!(what, [DISCOVERY, MOVED, MOVED]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_does_not_say_where_is_asked_once_however_many_wait() {
    for status in [0, 500, 404] {
        let (provider, .., verifier) = start();
        provider.answer(DISCOVERY, status, &json!({}));
        let begun = Instant::now();
        let waiting: Vec<_> = (0..100).map(|n| verifier.verify(&n.to_string())).collect();
        for verdict in waiting {
            assert_eq!(verdict.await.err(), Some(VerifyError::Unavailable));
        }
        assert_eq!(provider.asked().len(), 1, "{status}");
        assert!(begun.elapsed() < Duration::from_secs(11), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_the_issuer_does_not_know_is_no_refusal_of_tokens() {
    for error in ["invalid_client", "unauthorized_client"] {
        for status in [400, 401, 403] {
            let (provider, .., verifier) = start();
            provider.answer(ENDPOINT, status, &json!({"error": error}));
            let refusal = refused(&verifier, "t").await;
            assert_eq!(refusal, Some(VerifyError::Unavailable), "{status} {error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_be_no_token_is_not_asked_about() {
    let (provider, .., verifier) = start();
    for (token, reason) in [
        ("", Reason::Malformed),
        ("a\0b", Reason::Malformed),
        ("a\r\nb", Reason::Malformed),
        ("\u{e9}", Reason::Malformed),
        (&"a".repeat(16 * 1024 + 1), Reason::TooLong),
    ] {
        assert_eq!(refused(&verifier, token).await, invalid(reason), "{token}");
    }
    assert!(provider.asked().is_empty());
    let longest = "a".repeat(16 * 1024);
    assert_eq!(refused(&verifier, &longest).await, None);
}

#[tokio::test(start_paused = true)]
async fn d1_20_ten_thousand_unknown_tokens_at_once_are_asked_about_64_at_a_time() {
    let (provider, .., verifier) = start();
    assert_eq!(refused(&verifier, "known").await, None);
    provider.asked();
    provider.answer(ENDPOINT, 200, &json!({"active": false}));
    provider.takes(Duration::from_millis(100));

    let begun = Instant::now();
    let flood: Vec<_> = (0..10_000)
        .map(|n| verifier.verify(&n.to_string()))
        .collect();
    assert_eq!(at_once(&verifier, "known"), Some(None));
    let one_more = at_once(&verifier, "new");
    assert_eq!(one_more, Some(Some(VerifyError::Unavailable)));
    assert_eq!(begun.elapsed(), Duration::ZERO);

    let (mut refusals, mut unavailable) = (0, 0);
    for verdict in flood {
        match verdict.await {
            Err(VerifyError::Invalid(Reason::Unknown)) => refusals += 1,
            Err(VerifyError::Unavailable) => unavailable += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(at_once(&verifier, "known"), Some(None));
    }
    assert_eq!((refusals, unavailable), (1024, 10_000 - 1024));
    assert_eq!(provider.count(ENDPOINT), 1024);
    assert_eq!(provider.most(), 64);
    let rounds = 1024 / 64;
    assert!(begun.elapsed() < Duration::from_millis(100 * (rounds + 1)));
    provider.answer(ENDPOINT, 200, &active());
    assert_eq!(refused(&verifier, "new").await, None, "there is room again");
}

#[test]
fn an_issuer_that_cannot_be_discovered_at_is_refused() {
    let clock = HandClock::new();
    let error = |issuer: &str| {
        let client = Arc::new(Provider::default());
        let config = config(issuer, &clock);
        Introspection::new(config, "id", "canary", client, Verdicts::new(1)).err()
    };
    for issuer in [
        "",
        "issuer.example",
        "http://issuer.example",
        "http://127.0.0.1.issuer.example",
        "https://user@issuer.example",
        "https://issuer.example/#a",
        "https://issuer.example/?a=b",
    ] {
        assert_eq!(error(issuer), Some(ConfigError::Issuer), "{issuer}");
    }
    for issuer in [ISSUER, "http://127.0.0.1:8080", "http://localhost/realm"] {
        assert_eq!(error(issuer), None, "{issuer}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let (.., verifier) = start();
    let shown = format!("{verifier:?}");
    assert!(shown.contains(ISSUER), "{shown}");
    for secret in ["cret", "Basic", "Z2F0"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_configuration_holds_for_opaque_tokens_too() {
    let (provider, clock, ..) = start();
    let verifier = |config: JwtConfig| {
        let client = Arc::new(provider.clone());
        Introspection::new(config, "id", "secret", client, Verdicts::new(100)).unwrap()
    };
    let configured = config(ISSUER, &clock)
        .authorized_parties(["web"])
        .reserved_aliases(["github"])
        .roles_claim("realm_access.roles")
        .role("admin", ["gateway-admin"])
        .role("auditor", ["gateway-auditor"]);
    let primary = verifier(configured.clone().primary(true));
    let answer = |subject: &str, client: &str| {
        json!({"active": true, "aud": "api", "sub": subject, "username": "root", "client_id": client,
            "email": "alice@example.com", "email_verified": true, "groups": ["staff"],
            "realm_access": {"roles": ["gateway-admin"]}})
    };
    provider.answer(ENDPOINT, 200, &answer("alice", "web"));
    let alice = primary.verify("a").await.unwrap();
    assert_eq!(&**alice.user_id(), "alice");
    let roles: Vec<_> = alice.roles().iter().map(|role| &**role).collect();
    assert_eq!(roles, ["admin"]);
    assert_eq!(&*alice.groups()[0], "staff");
    assert_eq!(alice.email(), Some("alice@example.com"));
    assert!(alice.email_verified());
    assert_eq!(alice.expires_at(), None);
    let second = verifier(configured).verify("a").await.unwrap();
    assert_eq!(&**second.user_id(), "corp|alice");

    for (n, (answer, reason)) in [
        (answer("alice", "other"), Reason::AuthorizedParty),
        (answer("github|583231", "web"), Reason::Subject),
        (
            json!({"active": true, "aud": "api", "sub": "a"}),
            Reason::AuthorizedParty,
        ),
        // A name is not a subject.
        (
            json!({"active": true, "aud": "api", "username": "alice", "client_id": "web"}),
            Reason::Claim,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        provider.answer(ENDPOINT, 200, &answer);
        let refusal = refused(&primary, &format!("t{n}")).await;
        assert_eq!(refusal, invalid(reason), "{answer}");
    }
}
