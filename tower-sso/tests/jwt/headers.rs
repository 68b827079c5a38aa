//! What a token looks like and what its header says.

use serde_json::{Value, json};
use tower_sso::{
    Reason,
    jwt::{Algorithm, ConfigError, JwtVerifier, VerifyingKey},
};

use crate::support::*;

#[test]
fn each_algorithm_verifies_its_own_signature() {
    let table = [
        (&SigningKey::p256(), "ES256"),
        (&SigningKey::p384(), "ES384"),
        (&SigningKey::ed25519(), "EdDSA"),
        (SigningKey::rsa(), "RS256"),
        (SigningKey::rsa(), "PS256"),
    ];
    for (key, algorithm) in table {
        let verifier = JwtVerifier::with_jwk_set(config(), &jwk_set(&[key.jwk("k")])).unwrap();
        let header = json!({"alg": algorithm, "kid": "k"});
        let token = key.token_with(&header, &claims());
        assert_eq!(refusal(&verifier, &token), None, "{algorithm}");

        let (message, _) = token.rsplit_once('.').unwrap();
        let other = key.sign(algorithm, b"another message");
        let swapped = format!("{message}.{}", b64(other));
        assert_eq!(
            refusal(&verifier, &swapped),
            Some(Reason::Signature),
            "{algorithm}"
        );
    }
}

#[test]
fn a_changed_claim_or_header_breaks_the_signature() {
    let (verifier, key) = with_p256(config());
    let token = key.token("k", &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let mallory = b64(claims_with("sub", json!("mallory")).to_string());
    let header = b64(json!({"alg": "ES256", "kid": "k", "x": 1}).to_string());
    for changed in [
        format!("{}.{mallory}.{}", parts[0], parts[2]),
        format!("{header}.{}.{}", parts[1], parts[2]),
    ] {
        assert_eq!(refusal(&verifier, &changed), Some(Reason::Signature));
    }
}

#[test]
fn d1_01_alg_none_in_every_spelling() {
    let (verifier, key) = with_p256(config());
    let signed = key.token("k", &claims());
    let signature = signed.rsplit('.').next().unwrap();
    let payload = b64(claims().to_string());
    for name in ["none", "None", "NONE", "nOnE", "none ", "", "null", "es256"] {
        let header = b64(json!({"alg": name, "kid": "k"}).to_string());
        let token = format!("{header}.{payload}.{signature}");
        assert_eq!(
            refusal(&verifier, &token),
            Some(Reason::Algorithm),
            "{name}"
        );
        for bare in [
            format!("{header}.{payload}."),
            format!("{header}.{payload}"),
            format!("{header}.{payload}.."),
            format!("{header}.{payload}.{signature}."),
        ] {
            assert_eq!(refusal(&verifier, &bare), Some(Reason::Malformed), "{bare}");
        }
    }
    let absent = b64(json!({"kid": "k"}).to_string());
    let token = format!("{absent}.{payload}.{signature}");
    assert_eq!(refusal(&verifier, &token), Some(Reason::Algorithm));
}

#[test]
fn d1_02_a_public_key_is_no_secret() {
    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        signature::KeyPair as _,
    };

    let public = SigningKey::rsa().as_rsa().public_key();
    let spki: PublicKeyX509Der<'_> = public.as_der().unwrap();
    let jwk = SigningKey::rsa().jwk("k");
    let modulus = jwk["n"].as_str().unwrap().to_owned();
    let spki_pem = pem("PUBLIC KEY", spki.as_ref());
    let pkcs1_pem = pem("RSA PUBLIC KEY", public.as_ref());

    let by_set = JwtVerifier::with_jwk_set(config(), &jwk_set(&[jwk])).unwrap();
    let by_pem = JwtVerifier::with_key(
        config(),
        VerifyingKey::rsa_pem(spki_pem.as_bytes()).unwrap(),
    )
    .unwrap();
    let genuine = SigningKey::rsa().token("k", &claims());
    let secrets: Vec<Vec<u8>> = vec![
        spki_pem.clone().into_bytes(),
        spki_pem.trim_end().as_bytes().to_vec(),
        format!("{spki_pem}\n").into_bytes(),
        spki_pem.replace('\n', "\r\n").into_bytes(),
        pkcs1_pem.into_bytes(),
        spki.as_ref().to_vec(),
        public.as_ref().to_vec(),
        modulus.clone().into_bytes(),
        public.modulus().big_endian_without_leading_zero().to_vec(),
        Vec::new(),
    ];
    for verifier in [by_set, by_pem] {
        assert_eq!(refusal(&verifier, &genuine), None);
        for secret in &secrets {
            let token = SigningKey::Secret(secret.clone()).token("k", &claims());
            assert_eq!(refusal(&verifier, &token), Some(Reason::Algorithm));
        }
    }
}

#[test]
fn d1_02_a_static_secret_verifies_hmac_and_nothing_else() {
    let secret = vec![7; 32];
    let only_hmac = || config().algorithms([Algorithm::HS256]);
    let key = VerifyingKey::hmac(&secret).unwrap();
    let verifier = JwtVerifier::with_key(only_hmac(), key.clone()).unwrap();
    let token = SigningKey::Secret(secret.clone()).token("any", &claims());
    assert_eq!(refusal(&verifier, &token), None);
    let other = SigningKey::Secret(vec![8; 32]).token("any", &claims());
    assert_eq!(refusal(&verifier, &other), Some(Reason::Signature));
    let signed = SigningKey::p256().token("any", &claims());
    assert_eq!(refusal(&verifier, &signed), Some(Reason::Algorithm));

    let mixed = || config().algorithms([Algorithm::HS256, Algorithm::ES256]);
    let errors = [
        JwtVerifier::with_key(mixed(), key.clone()).err(),
        JwtVerifier::with_key(config().algorithms([]), key.clone()).err(),
        JwtVerifier::with_jwk_set(only_hmac(), &jwk_set(&[])).err(),
        JwtVerifier::discover(only_hmac(), std::sync::Arc::new(Issuer::new(&[]))).err(),
    ];
    assert_eq!(errors, [Some(ConfigError::Algorithms); 4]);
    assert_eq!(
        JwtVerifier::with_key(config(), key).err(),
        Some(ConfigError::KeyMismatch)
    );
    assert_eq!(
        VerifyingKey::hmac(&[7; 31]).err(),
        Some(ConfigError::Key),
        "RFC 7518 section 3.2"
    );
}

#[test]
fn an_algorithm_that_is_not_allowed_is_refused_though_the_key_could() {
    let only_ed = config().algorithms([Algorithm::EdDSA]);
    let (ed, ec) = (SigningKey::ed25519(), SigningKey::p256());
    let set = jwk_set(&[ed.jwk("ed"), ec.jwk("ec")]);
    let verifier = JwtVerifier::with_jwk_set(only_ed, &set).unwrap();
    assert_eq!(refusal(&verifier, &ed.token("ed", &claims())), None);
    assert_eq!(
        refusal(&verifier, &ec.token("ec", &claims())),
        Some(Reason::Algorithm)
    );
}

#[test]
fn d1_04_a_kid_is_only_ever_compared() {
    let (verifier, key) = with_p256(config());
    for kid in [
        "../../dev/null",
        "/dev/null",
        "' OR '1'='1",
        "k' --",
        "k\u{0}",
        "",
        " k",
        "k ",
        "K",
        "https://evil.example/keys",
        "$(id)",
    ] {
        let token = key.token(kid, &claims());
        assert_eq!(
            refusal(&verifier, &token),
            Some(Reason::UnknownKey),
            "{kid:?}"
        );
    }
    let long = key.token(&"k".repeat(64 * 1024), &claims());
    assert_eq!(refusal(&verifier, &long), Some(Reason::TooLong));
    for kid in [json!(0), json!(null), json!(["k"]), json!({})] {
        let header = json!({"alg": "ES256", "kid": kid});
        let token = key.token_with(&header, &claims());
        assert_eq!(refusal(&verifier, &token), Some(Reason::Malformed), "{kid}");
    }
}

#[tokio::test]
async fn d1_05_keys_brought_along_are_never_followed() {
    let (genuine, evil) = (SigningKey::p256(), SigningKey::p256());
    let issuer = Issuer::new(&[genuine.jwk("k")]);
    let verifier = issuer.verifier(config().cache_capacity(0));
    let first = genuine.token("k", &claims());
    tower_sso::Verify::verify(&verifier, &first).await.unwrap();
    assert_eq!(issuer.asked(), [DISCOVERY, KEYS]);

    let header = |kid: Option<&str>| {
        let mut header = json!({
            "alg": "ES256",
            "jku": "https://evil.example/keys",
            "x5u": "https://evil.example/chain",
            "jwk": evil.jwk("k"),
            "x5c": ["AAAA"],
        });
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        header
    };
    for kid in [Some("k"), None] {
        let forged = evil.token_with(&header(kid), &claims());
        assert_eq!(refusal(&verifier, &forged), Some(Reason::Signature));
        let ignored = genuine.token_with(&header(kid), &claims());
        assert_eq!(refusal(&verifier, &ignored), None, "they count for nothing");
    }
    settle().await;
    assert!(issuer.asked().is_empty(), "nothing was asked for");
}

#[test]
fn d1_06_what_must_be_understood_is_refused() {
    let (verifier, key) = with_p256(config());
    for extension in [
        json!({"crit": ["exp"], "exp": NOW}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": ["urn:unknown"], "urn:unknown": 1}),
        json!({"crit": []}),
        json!({"crit": null}),
        json!({"b64": false}),
        json!({"b64": true}),
        json!({"zip": "DEF"}),
        json!({"enc": "A256GCM"}),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "k"});
        let members = header.as_object_mut().unwrap();
        members.extend(extension.as_object().unwrap().clone());
        let token = key.token_with(&header, &claims());
        assert_eq!(
            refusal(&verifier, &token),
            Some(Reason::Critical),
            "{extension}"
        );
    }
}

#[test]
fn d1_10_a_member_twice_is_refused_in_header_and_claims() {
    let (verifier, key) = with_p256(config());
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let payload = claims().to_string();
    let more = |member: &str| payload.replacen('{', &format!("{{{member},"), 1);
    assert_eq!(
        refusal(&verifier, &key.token_of(header, &more(r#""x":{"a":1}"#))),
        None
    );
    for (header, payload) in [
        (header, more(r#""sub":"mallory""#)),
        (header, more(r#""sub":"alice""#)),
        (header, more(r#""s\u0075b":"mallory""#)),
        (header, more(r#""exp":9999999999"#)),
        (header, more(r#""x":{"a":1,"a":2}"#)),
        (header, more(r#""x":[{"a":1,"\u0061":2}]"#)),
        (r#"{"alg":"ES256","kid":"k","kid":"k"}"#, payload.clone()),
        (r#"{"alg":"none","kid":"k","alg":"ES256"}"#, payload.clone()),
    ] {
        let token = key.token_of(header, &payload);
        assert_eq!(
            refusal(&verifier, &token),
            Some(Reason::Malformed),
            "{header} {payload}"
        );
    }
}

#[test]
fn d1_11_a_token_of_another_kind_is_refused() {
    let (any, key) = with_p256(config());
    let set = jwk_set(&[key.jwk("k")]);
    let access_only = JwtVerifier::with_jwk_set(config().required_type("at+jwt"), &set).unwrap();
    let of_type = |kind: Value| {
        let header = json!({"alg": "ES256", "kid": "k", "typ": kind});
        key.token_with(&header, &claims())
    };
    let untyped = key.token_with(&json!({"alg": "ES256", "kid": "k"}), &claims());

    for kind in [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "Application/At+Jwt",
    ] {
        assert_eq!(refusal(&access_only, &of_type(json!(kind))), None, "{kind}");
        assert_eq!(refusal(&any, &of_type(json!(kind))), None, "{kind}");
    }
    for kind in ["JWT", "jwt", "application/jwt"] {
        assert_eq!(refusal(&any, &of_type(json!(kind))), None, "{kind}");
        assert_eq!(
            refusal(&access_only, &of_type(json!(kind))),
            Some(Reason::Type),
            "an ID token: {kind}"
        );
    }
    assert_eq!(refusal(&any, &untyped), None);
    assert_eq!(refusal(&access_only, &untyped), Some(Reason::Type));
    for kind in [
        "logout+jwt",
        "application/logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "JOSE",
        "at+jwt ",
        "text/at+jwt",
        "",
    ] {
        for verifier in [&any, &access_only] {
            assert_eq!(
                refusal(verifier, &of_type(json!(kind))),
                Some(Reason::Type),
                "{kind:?}"
            );
        }
    }

    let logout = claims_with(
        "events",
        json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
    );
    assert_eq!(refusal(&any, &key.token("k", &logout)), Some(Reason::Type));
    for name in ["at_hash", "c_hash"] {
        let token = key.token("k", &claims_with(name, json!("x")));
        assert_eq!(
            refusal(&any, &token),
            Some(Reason::Type),
            "only ID tokens have {name}"
        );
    }
    let with_nonce = key.token("k", &claims_with("nonce", json!("x")));
    assert_eq!(
        refusal(&any, &with_nonce),
        None,
        "some issuers put it everywhere"
    );
    for name in ["nonce", "at_hash", "c_hash"] {
        let header = json!({"alg": "ES256", "kid": "k", "typ": "at+jwt"});
        let token = key.token_with(&header, &claims_with(name, json!("x")));
        assert_eq!(
            refusal(&access_only, &token),
            Some(Reason::Type),
            "only ID tokens have {name}"
        );
    }
}

#[test]
fn d1_12_size_and_depth_are_bounded() {
    let (verifier, key) = with_p256(config());
    for length in [64 * 1024, 1024 * 1024] {
        let token = key.token("k", &claims_with("x", json!("x".repeat(length))));
        assert_eq!(refusal(&verifier, &token), Some(Reason::TooLong));
    }
    let payload = claims().to_string();
    let with = |more: &str| payload.replacen('{', &format!("{{{more},"), 1);
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let many: Vec<String> = (0..100_000).map(|n| format!("\"c{n}\":1")).collect();
    assert_eq!(
        refusal(&verifier, &key.token_of(header, &with(&many.join(",")))),
        Some(Reason::TooLong)
    );
    for levels in [20, 5_000] {
        let deep = format!("\"x\":{}{}", "[".repeat(levels), "]".repeat(levels));
        let token = key.token_of(header, &with(&deep));
        assert_eq!(
            refusal(&verifier, &token),
            Some(Reason::Malformed),
            "{levels} levels"
        );
    }
    let deep = format!("\"x\":{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(
        refusal(&verifier, &key.token_of(header, &with(&deep))),
        Some(Reason::TooLong)
    );
}

#[test]
fn d1_12_other_spellings_of_a_token_are_refused() {
    let (verifier, key) = with_p256(config());
    let token = key.token("k", &claims());
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(refusal(&verifier, &token), None);
    for other in [
        format!("{token}="),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{}.{}=.{}", parts[0], parts[1], parts[2]),
        format!("{}. {}.{}", parts[0], parts[1], parts[2]),
        format!("{token}.AAAA.AAAA"),
        json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string(),
        json!({"payload": parts[1], "signatures": [{"protected": parts[0]}]}).to_string(),
    ] {
        assert_eq!(
            refusal(&verifier, &other),
            Some(Reason::Malformed),
            "{other}"
        );
    }
    // A nested token: its payload is a token.
    let nested = key.token_of(r#"{"alg":"ES256","kid":"k","cty":"JWT"}"#, &token);
    assert_eq!(refusal(&verifier, &nested), Some(Reason::Malformed));
    // Four bits of a last character that belong to no byte.
    let last = parts[2].chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).unwrap();
    let twin = alphabet.chars().nth(place + 1).unwrap();
    let other = format!("{}{twin}", &token[..token.len() - 1]);
    assert_eq!(refusal(&verifier, &other), Some(Reason::Malformed));
}
