//! Who a verified token says it is.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tower_sso::{
    Identity, Reason,
    jwt::{ConfigError, JwtConfig, JwtVerifier},
};

use crate::support::*;

fn identify(config: JwtConfig, claims: &Value) -> Arc<Identity> {
    let (verifier, key) = with_p256(config);
    verdict(&verifier, &key.token("k", claims)).unwrap()
}

fn with(more: Value) -> Value {
    let (Value::Object(mut claims), Value::Object(more)) = (claims(), more) else {
        unreachable!("both are objects")
    };
    claims.extend(more);
    Value::Object(claims)
}

#[test]
fn an_identity_holds_what_the_token_says() {
    let claims = with(json!({
        "email": "alice@example.com",
        "email_verified": true,
        "name": "Alice",
        "picture": "https://example.com/a.png",
        "groups": ["team-a", "team-b"],
        "scope": "read  write",
        "sid": "session-1",
        "https://example.com/x": [1],
    }));
    let identity = identify(config().alias("corp"), &claims);

    assert_eq!(identity.issuer(), ISSUER);
    assert_eq!(identity.provider(), "corp");
    assert_eq!(&**identity.subject(), "alice");
    assert_eq!(identity.email(), Some("alice@example.com"));
    assert!(identity.email_verified());
    assert_eq!(identity.name(), Some("Alice"));
    assert_eq!(identity.picture(), Some("https://example.com/a.png"));
    assert_eq!(
        identity.groups(),
        [Box::<str>::from("team-a"), Box::<str>::from("team-b")]
    );
    assert_eq!(
        identity.scopes(),
        [Box::<str>::from("read"), Box::<str>::from("write")]
    );
    assert_eq!(identity.session_id(), Some("session-1"));
    assert_eq!(
        identity.expires_at(),
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 600))
    );
    assert_eq!(identity.claims(), claims.to_string(), "as they were signed");
}

#[test]
fn an_address_nobody_vouches_for_is_not_verified() {
    for claims in [
        with(json!({"email": "a@example.com"})),
        with(json!({"email": "a@example.com", "email_verified": false})),
        with(json!({"email_verified": true})),
    ] {
        assert!(!identify(config(), &claims).email_verified(), "{claims}");
    }
}

#[test]
fn scopes_are_found_under_both_names() {
    for claims in [
        with(json!({"scope": "a b"})),
        with(json!({"scp": "a b"})),
        with(json!({"scp": ["a", "b"]})),
        with(json!({"scope": "a b", "scp": "c"})),
    ] {
        let identity = identify(config(), &claims);
        assert_eq!(
            identity.scopes(),
            [Box::<str>::from("a"), Box::<str>::from("b")],
            "{claims}"
        );
    }
    assert!(identify(config(), &claims()).scopes().is_empty());
}

#[test]
fn roles_are_what_the_configuration_names() {
    let roles = |config: JwtConfig, claims: &Value| -> Vec<String> {
        let identity = identify(config, claims);
        identity.roles().iter().map(ToString::to_string).collect()
    };
    let mapped = || {
        config()
            .role("admin", ["openclaw-admins", "root"])
            .role("auditor", ["auditors"])
    };
    let groups = |groups: Value| with(json!({ "groups": groups }));

    assert_eq!(
        roles(mapped(), &groups(json!(["root", "auditors"]))),
        ["admin", "auditor"]
    );
    assert_eq!(roles(mapped(), &groups(json!("auditors"))), ["auditor"]);
    assert!(roles(mapped(), &groups(json!(["admin", "Root", "auditor"]))).is_empty());
    assert!(roles(mapped(), &claims()).is_empty());
    assert!(
        roles(
            config(),
            &with(json!({"groups": ["admin"], "roles": ["admin"]}))
        )
        .is_empty(),
        "an issuer gives no role by itself"
    );

    let nested = with(json!({"realm_access": {"roles": ["auditors"]}, "groups": ["root"]}));
    assert_eq!(
        roles(mapped().roles_claim("realm_access.roles"), &nested),
        ["auditor"]
    );
    let named = with(json!({"https://example.com/roles": ["root"]}));
    assert_eq!(
        roles(mapped().roles_claim("https://example.com/roles"), &named),
        ["admin"]
    );
}

#[test]
fn roles_of_the_wrong_type_refuse() {
    let (verifier, key) = with_p256(config().roles_claim("a.b").role("admin", ["x"]));
    for value in [
        json!({"b": 1}),
        json!({"b": [1]}),
        json!({"b": null}),
        json!({"b": {}}),
    ] {
        let token = key.token("k", &with(json!({ "a": value })));
        assert_eq!(refusal(&verifier, &token), Some(Reason::Claim), "{value}");
    }
}

#[test]
fn d1_16_equal_subjects_of_two_issuers_are_two_users() {
    let other = "https://other.example";
    let of_other = |config: JwtConfig| {
        let mut claims = claims();
        claims["iss"] = json!(other);
        identify(config.clock(Arc::new(HandClock::new())), &claims)
    };
    let corp = identify(config(), &claims());
    let partner = of_other(JwtConfig::new(other, AUDIENCE).alias("partner"));
    let unnamed = of_other(JwtConfig::new(other, AUDIENCE));

    assert_eq!(&**corp.user_id(), "alice");
    assert_eq!(&**partner.user_id(), "partner|alice");
    assert_eq!(
        &**unnamed.user_id(),
        "https://other.example|alice",
        "no issuer is primary by itself"
    );
    assert_eq!(partner.subject(), corp.subject());
}

#[test]
fn d1_16_a_token_of_one_issuer_is_not_the_others() {
    let (corp, key) = with_p256(config());
    let mut claims = claims();
    claims["iss"] = json!("https://other.example");
    assert_eq!(
        refusal(&corp, &key.token("k", &claims)),
        Some(Reason::Issuer)
    );
}

#[test]
fn d1_16_a_primary_subject_cannot_pass_for_another_issuers_user() {
    let (verifier, key) = with_p256(config().reserved_aliases(["partner"]));
    let refusal_of = |subject: &str| {
        let token = key.token("k", &claims_with("sub", json!(subject)));
        refusal(&verifier, &token)
    };
    assert_eq!(refusal_of("partner|alice"), Some(Reason::Subject));
    assert_eq!(refusal_of("partner|"), Some(Reason::Subject));
    assert_eq!(refusal_of("partner"), None);
    assert_eq!(refusal_of("auth0|alice"), None);
}

#[test]
fn an_alias_that_would_break_user_ids_is_refused() {
    let key = SigningKey::p256();
    let set = jwk_set(&[key.jwk("k")]);
    let error = |config: JwtConfig| JwtVerifier::with_jwk_set(config, &set).err();
    for alias in ["", "a|b", "a\nb"] {
        assert_eq!(error(config().alias(alias)), Some(ConfigError::Alias));
    }
    assert_eq!(
        error(JwtConfig::new("", AUDIENCE)),
        Some(ConfigError::Issuer)
    );
    assert_eq!(
        error(JwtConfig::new(ISSUER, "")),
        Some(ConfigError::Audience)
    );
}

#[test]
fn debug_shows_neither_claims_nor_keys() {
    let (verifier, key) = with_p256(config());
    let token = key.token("k", &claims_with("email", json!("canary@example.com")));
    let identity = verdict(&verifier, &token).unwrap();
    let shown = format!("{identity:?} {verifier:?}");
    assert!(!shown.contains("canary"), "{shown}");
    assert!(!shown.contains("alice"), "{shown}");
}
