//! What keys are used, and what they may be used for.

use serde_json::{Value, json};
use tower_sso::{
    Reason,
    jwt::{ConfigError, JwtVerifier, VerifyingKey},
};

use crate::support::*;

/// A verifier with this key and an unrelated one, so that there is always a usable key.
fn with_key(jwk: Value) -> JwtVerifier {
    let spare = SigningKey::ed25519().jwk("spare");
    JwtVerifier::with_jwk_set(config(), &jwk_set(&[jwk, spare])).unwrap()
}

fn changed(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

#[test]
fn d1_03_a_key_for_something_else_verifies_nothing() {
    let key = SigningKey::p256();
    let token = key.token("k", &claims());
    let jwk = || key.jwk("k");
    for usable in [
        jwk(),
        changed(jwk(), "use", json!("sig")),
        changed(jwk(), "key_ops", json!(["sign", "verify"])),
        changed(jwk(), "alg", json!("ES256")),
        changed(jwk(), "unknown", json!({"a": 1})),
    ] {
        assert_eq!(refusal(&with_key(usable.clone()), &token), None, "{usable}");
    }
    for unusable in [
        changed(jwk(), "use", json!("enc")),
        changed(jwk(), "use", json!("")),
        changed(jwk(), "use", json!(["sig"])),
        changed(jwk(), "key_ops", json!(["encrypt"])),
        changed(jwk(), "key_ops", json!([])),
        changed(jwk(), "key_ops", json!("verify")),
        changed(jwk(), "alg", json!("ES384")),
        changed(jwk(), "alg", json!("RS256")),
        changed(jwk(), "alg", json!("HS256")),
        changed(jwk(), "alg", json!("ECDH-ES")),
        changed(jwk(), "kty", json!("RSA")),
        changed(jwk(), "kty", json!("OKP")),
        changed(jwk(), "kty", json!("oct")),
        changed(jwk(), "kty", json!("ec")),
        changed(jwk(), "crv", json!("P-384")),
        changed(jwk(), "crv", json!("secp256k1")),
        changed(jwk(), "crv", json!(null)),
        changed(jwk(), "x", json!("AAAA")),
        changed(jwk(), "y", json!("not base64url!")),
        changed(jwk(), "d", json!("AAAA")),
    ] {
        assert_eq!(
            refusal(&with_key(unusable.clone()), &token),
            Some(Reason::UnknownKey),
            "{unusable}"
        );
    }
    let twice = jwk().to_string().replacen('{', r#"{"kty":"EC","#, 1);
    let spare = SigningKey::ed25519().jwk("spare");
    let set = format!(r#"{{"keys":[{twice},{spare}]}}"#);
    let verifier = JwtVerifier::with_jwk_set(config(), &set).unwrap();
    assert_eq!(refusal(&verifier, &token), Some(Reason::UnknownKey));
}

#[test]
fn d1_03_a_key_of_one_kind_serves_no_algorithm_of_another() {
    let (rsa, ec, ed) = (SigningKey::rsa(), SigningKey::p256(), SigningKey::ed25519());
    let set = jwk_set(&[rsa.jwk("rsa"), ec.jwk("ec"), ed.jwk("ed")]);
    let verifier = JwtVerifier::with_jwk_set(config(), &set).unwrap();
    for (kid, algorithm) in [
        ("rsa", "ES256"),
        ("rsa", "EdDSA"),
        ("ec", "RS256"),
        ("ec", "ES384"),
        ("ec", "EdDSA"),
        ("ed", "ES256"),
        ("ed", "PS256"),
    ] {
        let header = json!({"alg": algorithm, "kid": kid});
        let token = ec.token_with(&header, &claims());
        assert_eq!(
            refusal(&verifier, &token),
            Some(Reason::Algorithm),
            "{algorithm} by {kid}"
        );
    }
}

#[test]
fn d1_03_a_key_with_an_alg_serves_that_alone() {
    let rsa = SigningKey::rsa();
    let only_pss = with_key(changed(rsa.jwk("k"), "alg", json!("PS256")));
    let sign = |alg: &str| rsa.token_with(&json!({"alg": alg, "kid": "k"}), &claims());
    assert_eq!(refusal(&only_pss, &sign("PS256")), None);
    assert_eq!(refusal(&only_pss, &sign("RS256")), Some(Reason::Algorithm));
}

#[test]
fn d1_02_a_secret_in_a_published_set_is_not_used() {
    let secret = SigningKey::Secret(vec![7; 32]);
    let token = secret.token("s", &claims());
    let verifier = with_key(secret.jwk("s"));
    assert_eq!(refusal(&verifier, &token), Some(Reason::Algorithm));
    assert_eq!(
        JwtVerifier::with_jwk_set(config(), &jwk_set(&[secret.jwk("s")])).err(),
        Some(ConfigError::Key),
        "a set of secrets is an empty set"
    );
}

#[test]
fn d1_04_of_two_keys_with_one_kid_neither_is_used() {
    let (first, second, third) = (SigningKey::p256(), SigningKey::p256(), SigningKey::p256());
    let set = jwk_set(&[first.jwk("k"), second.jwk("k"), third.jwk("t")]);
    let verifier = JwtVerifier::with_jwk_set(config(), &set).unwrap();
    for key in [&first, &second] {
        let token = key.token("k", &claims());
        assert_eq!(refusal(&verifier, &token), Some(Reason::UnknownKey));
    }
    assert_eq!(refusal(&verifier, &third.token("t", &claims())), None);

    let same = jwk_set(&[first.jwk("k"), first.jwk("k"), third.jwk("t")]);
    let verifier = JwtVerifier::with_jwk_set(config(), &same).unwrap();
    let token = first.token("k", &claims());
    assert_eq!(refusal(&verifier, &token), Some(Reason::UnknownKey));

    let enc = changed(second.jwk("k"), "use", json!("enc"));
    let verifier = JwtVerifier::with_jwk_set(config(), &jwk_set(&[first.jwk("k"), enc])).unwrap();
    assert_eq!(
        refusal(&verifier, &token),
        None,
        "a key that verifies nothing is no rival"
    );
}

#[test]
fn d1_04_without_a_kid_there_must_be_one_candidate() {
    let (ec, other, ed) = (
        SigningKey::p256(),
        SigningKey::p256(),
        SigningKey::ed25519(),
    );
    let token = ec.token_with(&json!({"alg": "ES256"}), &claims());

    let one = jwk_set(&[ec.jwk("ec"), ed.jwk("ed")]);
    let verifier = JwtVerifier::with_jwk_set(config(), &one).unwrap();
    assert_eq!(refusal(&verifier, &token), None, "the only key for ES256");

    let two = jwk_set(&[ec.jwk("ec"), other.jwk("other")]);
    let verifier = JwtVerifier::with_jwk_set(config(), &two).unwrap();
    assert_eq!(refusal(&verifier, &token), Some(Reason::UnknownKey));

    let mut unnamed = ec.jwk("");
    unnamed.as_object_mut().unwrap().remove("kid");
    let verifier = JwtVerifier::with_jwk_set(config(), &jwk_set(&[unnamed])).unwrap();
    assert_eq!(refusal(&verifier, &token), None);
    assert_eq!(
        refusal(&verifier, &ec.token("ec", &claims())),
        Some(Reason::UnknownKey),
        "a name must be matched by a name"
    );
}

#[test]
fn d1_13_forged_elliptic_signatures() {
    let key = SigningKey::p256();
    let (good, other) = (with_key(key.jwk("k")), SigningKey::p384());
    let header = b64(json!({"alg": "ES256", "kid": "k"}).to_string());
    let message = format!("{header}.{}", b64(claims().to_string()));
    // The order of P-256 (FIPS 186-4 appendix D.1.2.3).
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let genuine = key.sign("ES256", message.as_bytes());
    let one = [[0; 31].as_slice(), &[1]].concat();
    for signature in [
        vec![0; 64],
        [one.as_slice(), &[0; 32]].concat(),
        [[0; 32].as_slice(), &one].concat(),
        order.repeat(2),
        vec![0xff; 64],
        vec![0; 1],
        genuine[..63].to_vec(),
        [genuine.as_slice(), &[0]].concat(),
        other.sign("ES384", message.as_bytes()),
        // The form of X.509: a sequence of two numbers.
        vec![0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01],
    ] {
        let token = format!("{message}.{}", b64(&signature));
        assert_eq!(
            refusal(&good, &token),
            Some(Reason::Signature),
            "{signature:02x?}"
        );
    }
    assert_eq!(refusal(&good, &format!("{message}.{}", b64(genuine))), None);
}

#[test]
fn d1_13_a_point_that_is_not_on_the_curve_verifies_nothing() {
    let key = SigningKey::p256();
    let verifier = with_key(changed(key.jwk("k"), "y", json!(b64([1; 32]))));
    assert_eq!(
        refusal(&verifier, &key.token("k", &claims())),
        Some(Reason::Signature)
    );
    let verifier = with_key(json!({
        "kty": "EC", "crv": "P-256", "kid": "k", "x": b64([0; 32]), "y": b64([0; 32]),
    }));
    assert_eq!(
        refusal(&verifier, &key.token("k", &claims())),
        Some(Reason::Signature)
    );
}

#[test]
fn d1_13_an_edwards_point_of_small_order_is_no_key() {
    // Under the identity as key, this signature verifies every message.
    let identity = [[1].as_slice(), &[0; 31]].concat();
    let mut forged = identity.clone();
    forged.extend([0; 32]);
    let mut points: Vec<Vec<u8>> = vec![
        identity,
        vec![0; 32],
        [[0xec].as_slice(), &[0xff; 30], &[0x7f]].concat(),
        [[0xed].as_slice(), &[0xff; 30], &[0x7f]].concat(),
        [[0xee].as_slice(), &[0xff; 30], &[0x7f]].concat(),
    ];
    for hex in [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ] {
        let byte = |place: usize| u8::from_str_radix(&hex[place..place + 2], 16).unwrap();
        points.push((0..64).step_by(2).map(byte).collect());
    }
    let header = b64(json!({"alg": "EdDSA", "kid": "k"}).to_string());
    let message = format!("{header}.{}", b64(claims().to_string()));
    for mut point in points {
        for sign in [0, 0x80] {
            point[31] ^= sign;
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64(&point)});
            let token = format!("{message}.{}", b64(&forged));
            let spare = SigningKey::p256().jwk("spare");
            let set = jwk_set(&[jwk, spare]);
            let verifier = JwtVerifier::with_jwk_set(config(), &set).unwrap();
            assert_eq!(
                refusal(&verifier, &token),
                Some(Reason::UnknownKey),
                "{point:02x?}"
            );
        }
    }
}

#[test]
fn d1_13_weak_rsa_keys_are_not_used() {
    let fixtures = openssl();
    let small = fixtures["rs256_512"].as_str().unwrap();
    let verifier = with_key(fixtures["rsa_512"].clone());
    assert_eq!(
        refusal(&verifier, small),
        Some(Reason::UnknownKey),
        "512 bits"
    );

    // With an exponent of one a signature is the padded digest itself.
    let header = b64(json!({"alg": "RS256", "kid": "k"}).to_string());
    let message = format!("{header}.{}", b64(claims().to_string()));
    let forged = format!("{message}.{}", b64(padded_digest(message.as_bytes())));
    for exponent in [&[1][..], &[0, 0, 1], &[0], &[], &[2], &[1, 0, 0], &[1; 5]] {
        let jwk = changed(SigningKey::rsa().jwk("k"), "e", json!(b64(exponent)));
        assert_eq!(
            refusal(&with_key(jwk), &forged),
            Some(Reason::UnknownKey),
            "{exponent:?}"
        );
    }
    let padded = [vec![0; 129], vec![0xc1; 128]].concat();
    let jwk = changed(SigningKey::rsa().jwk("k"), "n", json!(b64(padded)));
    assert_eq!(
        refusal(&with_key(jwk), &forged),
        Some(Reason::UnknownKey),
        "leading zeros are no strength"
    );
    let huge = changed(SigningKey::rsa().jwk("k"), "n", json!(b64([0xc1; 1025])));
    assert_eq!(
        refusal(&with_key(huge), &forged),
        Some(Reason::UnknownKey),
        "verifying must stay cheap"
    );
}

#[test]
fn d1_13_the_pss_salt_is_as_long_as_the_hash() {
    let fixtures = openssl();
    let verifier = with_key(fixtures["rsa_2048"].clone());
    for (length, token) in fixtures["pss_salt"].as_object().unwrap() {
        // RFC 7518 section 3.5.
        let wanted = (length != "32").then_some(Reason::Signature);
        assert_eq!(
            refusal(&verifier, token.as_str().unwrap()),
            wanted,
            "{length}"
        );
    }
}

#[test]
fn keys_in_pem_form_verify() {
    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        signature::KeyPair as _,
    };

    let pem_of = |der: PublicKeyX509Der<'_>| pem("PUBLIC KEY", der.as_ref());
    let check = |key: &SigningKey, public: VerifyingKey| {
        let verifier = JwtVerifier::with_key(config(), public).unwrap();
        assert_eq!(refusal(&verifier, &key.token("any", &claims())), None);
        let unnamed = key.token_with(&json!({"alg": key.algorithm()}), &claims());
        assert_eq!(refusal(&verifier, &unnamed), None);
    };
    let key = SigningKey::rsa();
    let text = pem_of(key.as_rsa().public_key().as_der().unwrap());
    check(key, VerifyingKey::rsa_pem(text.as_bytes()).unwrap());
    assert!(VerifyingKey::ec_pem(text.as_bytes()).is_err());
    for key in [SigningKey::p256(), SigningKey::p384()] {
        let (SigningKey::P256(pair) | SigningKey::P384(pair)) = &key else {
            unreachable!()
        };
        let text = pem_of(pair.public_key().as_der().unwrap());
        check(&key, VerifyingKey::ec_pem(text.as_bytes()).unwrap());
    }
    let key = SigningKey::ed25519();
    let SigningKey::Ed25519(pair) = &key else {
        unreachable!()
    };
    let text = pem_of(pair.public_key().as_der().unwrap());
    check(&key, VerifyingKey::ed_pem(text.as_bytes()).unwrap());
    assert!(VerifyingKey::ed_pem(b"nonsense").is_err());
}

/// What cannot be made with AWS-LC: a small key, and salts of other lengths. Made by OpenSSL.
fn openssl() -> Value {
    serde_json::from_str(include_str!("openssl.json")).unwrap()
}
