//! What the claims of a token say.

use serde_json::{Value, json};
use tower_sso::{Reason, jwt::JwtVerifier};

use crate::support::*;

/// Signs the claims as text, for numbers a `Value` cannot hold.
fn refuses_text(name: &str, value: &str) -> Option<Reason> {
    let (verifier, key) = with_p256(config());
    let rest = claims_without(name).to_string();
    let text = rest.replacen('{', &format!("{{\"{name}\":{value},"), 1);
    let token = key.token_of(r#"{"alg":"ES256","kid":"k"}"#, &text);
    refusal(&verifier, &token)
}

fn refuses(claims: &Value) -> Option<Reason> {
    let (verifier, key) = with_p256(config());
    refusal(&verifier, &key.token("k", claims))
}

#[test]
fn d1_07_time_counts_to_the_second() {
    const LEEWAY: u64 = 60;
    let exp = |seconds: u64| refuses(&claims_with("exp", json!(seconds)));
    assert_eq!(exp(NOW + 1), None);
    assert_eq!(exp(NOW), None, "within the leeway");
    assert_eq!(exp(NOW - LEEWAY + 1), None);
    assert_eq!(exp(NOW - LEEWAY), Some(Reason::Expired), "on or after");
    assert_eq!(exp(NOW - LEEWAY - 1), Some(Reason::Expired));
    assert_eq!(exp(0), Some(Reason::Expired));

    for name in ["nbf", "iat"] {
        let at = |seconds: u64| refuses(&claims_with(name, json!(seconds)));
        assert_eq!(at(NOW), None, "{name}");
        assert_eq!(at(NOW + LEEWAY), None, "{name}");
        assert_eq!(at(NOW + LEEWAY + 1), Some(Reason::NotYetValid), "{name}");
        assert_eq!(at(NOW + 86_400), Some(Reason::NotYetValid), "{name}");
    }
}

#[test]
fn d1_07_the_leeway_can_be_none() {
    let key = SigningKey::p256();
    let exact = config().leeway(std::time::Duration::ZERO);
    let verifier = JwtVerifier::with_jwk_set(exact, &jwk_set(&[key.jwk("k")])).unwrap();
    let exp = |seconds: u64| {
        let token = key.token("k", &claims_with("exp", json!(seconds)));
        refusal(&verifier, &token)
    };
    assert_eq!(exp(NOW + 1), None);
    assert_eq!(exp(NOW), Some(Reason::Expired));
}

#[test]
fn d1_07_a_time_is_a_number_in_range() {
    for name in ["exp", "nbf", "iat", "auth_time"] {
        for value in [
            "\"1700000600\"",
            "null",
            "true",
            "[]",
            "{}",
            "-1",
            "-0.5",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "253402300800",
            "1e300",
        ] {
            assert_eq!(
                refuses_text(name, value),
                Some(Reason::Claim),
                "{name}: {value}"
            );
        }
        for value in [
            "1e400",
            "-1e400",
            "NaN",
            "Infinity",
            "01",
            "0x10",
            "1700000600.",
            "+1",
        ] {
            assert_eq!(
                refuses_text(name, value),
                Some(Reason::Malformed),
                "{name}: {value}"
            );
        }
    }
    for value in [
        "1700000600.5",
        "1.7000006e9",
        "253402300799",
        "1700000600.0",
    ] {
        assert_eq!(refuses_text("exp", value), None, "{value}");
    }
}

#[test]
fn d1_07_what_is_required_must_be_there() {
    for name in ["exp", "iss", "aud", "sub"] {
        assert_eq!(
            refuses(&claims_without(name)),
            Some(Reason::Claim),
            "{name}"
        );
    }
    assert_eq!(refuses(&claims_without("iat")), None);
}

#[test]
fn d1_08_the_audience_is_exact() {
    for audience in [
        json!("api"),
        json!(["api"]),
        json!(["other", "api"]),
        json!(["api", "api"]),
    ] {
        assert_eq!(
            refuses(&claims_with("aud", audience.clone())),
            None,
            "{audience}"
        );
    }
    for audience in [
        json!(""),
        json!("API"),
        json!("api "),
        json!("api/"),
        json!("apis"),
        json!("ap"),
        json!("other api"),
        json!("аpi"),
        json!([]),
        json!([""]),
        json!(["other"]),
        json!(["API"]),
    ] {
        assert_eq!(
            refuses(&claims_with("aud", audience.clone())),
            Some(Reason::Audience),
            "{audience}"
        );
    }
    for audience in [
        json!(null),
        json!(1),
        json!({"api": "api"}),
        json!(["api", 1]),
        json!([["api"]]),
        json!(true),
    ] {
        assert_eq!(
            refuses(&claims_with("aud", audience.clone())),
            Some(Reason::Claim),
            "{audience}"
        );
    }
}

#[test]
fn d1_08_the_issuer_is_compared_byte_for_byte() {
    for issuer in [
        "",
        "https://issuer.example/",
        "https://ISSUER.example",
        "HTTPS://issuer.example",
        "http://issuer.example",
        "https://issuer.example ",
        "https://issuer.example:443",
        "https://issuer.example.evil.example",
        "https://issuer.exаmple",
        "issuer.example",
    ] {
        assert_eq!(
            refuses(&claims_with("iss", json!(issuer))),
            Some(Reason::Issuer),
            "{issuer}"
        );
    }
    for issuer in [json!(null), json!(1), json!([ISSUER]), json!({})] {
        assert_eq!(
            refuses(&claims_with("iss", issuer.clone())),
            Some(Reason::Claim),
            "{issuer}"
        );
    }
}

#[test]
fn d1_08_the_authorized_party_is_checked_where_it_is_set() {
    let key = SigningKey::p256();
    let set = jwk_set(&[key.jwk("k")]);
    let ours = config().authorized_parties(["web", "cli"]);
    let verifier = JwtVerifier::with_jwk_set(ours, &set).unwrap();
    let refuses = |claims: Value| refusal(&verifier, &key.token("k", &claims));

    assert_eq!(refuses(claims_with("azp", json!("web"))), None);
    assert_eq!(refuses(claims_with("client_id", json!("cli"))), None);
    for wrong in [
        claims(),
        claims_with("azp", json!("other")),
        claims_with("azp", json!("WEB")),
        claims_with("client_id", json!("other")),
        json!({"azp": "other", "client_id": "web", "iss": ISSUER, "aud": AUDIENCE, "sub": "a",
               "exp": NOW + 1}),
    ] {
        assert_eq!(
            refuses(wrong.clone()),
            Some(Reason::AuthorizedParty),
            "{wrong}"
        );
    }
    assert_eq!(
        refuses(claims_with("azp", json!(["web"]))),
        Some(Reason::Claim)
    );
}

#[test]
fn d1_09_a_subject_can_name_a_user() {
    for subject in [
        "a",
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "user@example.com",
        "first last",
        "..",
        "ünïcödé",
        "用户",
        "-rf",
        &"a".repeat(255),
    ] {
        let (verifier, key) = with_p256(config());
        let token = key.token("k", &claims_with("sub", json!(subject)));
        let identity = verdict(&verifier, &token).unwrap();
        assert_eq!(&**identity.subject(), subject, "as it is");
    }
    for subject in [
        "",
        " ",
        "\t\n",
        "\u{a0}",
        "\u{3000}",
        " alice",
        "alice ",
        "alice\n",
        "al\nice",
        "al\u{0}ice",
        "\u{0}",
        "alice\u{7f}",
        "alice\u{85}",
        "\u{202e}ecila",
        "ali\u{2066}ce",
        "ali\u{200b}ce",
        "ali\u{200d}ce",
        "ali\u{ad}ce",
        "alice\u{feff}",
        "ali\u{2028}ce",
        "ali\u{e0041}ce",
        &"a".repeat(256),
        &"ü".repeat(128),
    ] {
        assert_eq!(
            refuses(&claims_with("sub", json!(subject))),
            Some(Reason::Subject),
            "{subject:?}"
        );
    }
    for subject in [
        json!(1),
        json!(null),
        json!({"a": 1}),
        json!(["alice"]),
        json!(true),
    ] {
        assert_eq!(
            refuses(&claims_with("sub", subject.clone())),
            Some(Reason::Claim),
            "{subject}"
        );
    }
    let huge = claims_with("sub", json!("a".repeat(1024 * 1024)));
    assert_eq!(refuses(&huge), Some(Reason::TooLong));
    assert_eq!(
        refuses_text("sub", "\"\\ud800\""),
        Some(Reason::Malformed),
        "half a character"
    );
}

#[test]
fn d1_09_composed_and_decomposed_twins_are_two_users() {
    let (verifier, key) = with_p256(config());
    let user_id = |subject: &str| {
        let token = key.token("k", &claims_with("sub", json!(subject)));
        verdict(&verifier, &token).unwrap().user_id().clone()
    };
    let (composed, decomposed) = (user_id("jos\u{e9}"), user_id("jose\u{301}"));
    assert_ne!(composed, decomposed);
    assert_ne!(user_id("Alice"), user_id("alice"));
}

#[test]
fn d1_17_a_registered_claim_of_the_wrong_type_refuses() {
    let values = [
        ("null", json!(null)),
        ("bool", json!(true)),
        ("number", json!(1)),
        ("text", json!("1")),
        ("array", json!([])),
        ("numbers", json!([1])),
        ("object", json!({})),
    ];
    let table: [(&str, &[&str]); 21] = [
        ("iss", &["text"]),
        ("sub", &["text"]),
        ("aud", &["text", "array"]),
        ("exp", &["number"]),
        ("nbf", &["number"]),
        ("iat", &["number"]),
        ("jti", &["text"]),
        ("azp", &["text"]),
        ("client_id", &["text"]),
        ("scope", &["text"]),
        ("sid", &["text"]),
        ("acr", &["text"]),
        ("nonce", &["text"]),
        ("at_hash", &["text"]),
        ("c_hash", &["text"]),
        ("auth_time", &["number"]),
        ("name", &["text"]),
        ("picture", &["text"]),
        ("email", &["text"]),
        ("email_verified", &["bool"]),
        ("groups", &["text", "array"]),
    ];
    for (name, types) in table {
        for (kind, value) in &values {
            let refused = refuses(&claims_with(name, value.clone()));
            if types.contains(kind) {
                assert_ne!(refused, Some(Reason::Claim), "{name} may be {kind}");
            } else {
                assert_eq!(refused, Some(Reason::Claim), "{name} as {kind}");
            }
        }
    }
}

#[test]
fn d1_20_a_token_bound_to_its_holder_is_refused() {
    for confirmation in [
        json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
        json!({}),
        json!("x"),
        Value::Null,
    ] {
        assert_eq!(
            refuses(&claims_with("cnf", confirmation.clone())),
            Some(Reason::Bound),
            "{confirmation}"
        );
    }
}

#[test]
fn d1_11_the_profile_of_rfc_9068_requires_what_it_says() {
    let (verifier, key) = with_p256(config().rfc9068());
    let refused = |kind: &str, claims: &Value| {
        let header = json!({"alg": "ES256", "kid": "k", "typ": kind});
        refusal(&verifier, &key.token_with(&header, claims))
    };
    let mut whole = claims_with("client_id", json!("web"));
    whole["jti"] = json!("1");
    assert_eq!(refused("at+jwt", &whole), None);
    assert_eq!(refused("application/at+jwt", &whole), None);
    assert_eq!(refused("JWT", &whole), Some(Reason::Type));
    for name in ["client_id", "jti", "iat", "exp", "iss", "aud", "sub"] {
        let mut without = whole.clone();
        without.as_object_mut().unwrap().remove(name);
        assert_eq!(refused("at+jwt", &without), Some(Reason::Claim), "{name}");
    }
}
