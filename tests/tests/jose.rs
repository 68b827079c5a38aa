//! Our verifier of tokens against panva's `jose`: thousands of tokens, made anew for each run (`node/jose.mjs`), and the
//! answer of each about each of them.
//!
//! We never accept what jose refuses, but for [`ACCEPTED`]. Where we refuse what jose accepts, one of [`EXPLANATIONS`] says why, by a look of its
//! own at the token. A disagreement that none explains fails, and so does an explanation that nothing needs.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    process::Stdio,
    time::{Duration, SystemTime},
};

use base64::{
    Engine, alphabet,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD,
    },
};
use gateway_tests::{error::Result, kit::Kit};
use serde::Deserialize;
use serde_json::Value;
use tower_sso::{
    Reason, Verify, VerifyError,
    jwt::{JwtConfig, JwtVerifier},
};

/// The variable with another seed than the usual one.
const SEED: &str = "JOSE_SEED";

/// Fewer tokens would be a generator that has lost something.
const LEAST: usize = 5000;

#[derive(Deserialize)]
struct Setting {
    seed: u32,
    jwks: Value,
    issuer: String,
    audience: String,
    now: u64,
    leeway: u64,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    token: String,
    refused: Option<String>,
    subject: Option<String>,
}

/// Why we refuse what jose accepts.
struct Explanation {
    name: &'static str,
    /// What we say of such a token.
    reason: Reason,
    /// Whether a token is such a one.
    holds: fn(&Token<'_>) -> bool,
}

const EXPLANATIONS: [Explanation; 19] = [
    Explanation {
        name: "a token has at most 16 KiB",
        reason: Reason::TooLong,
        holds: |token| token.text.len() > 16 * 1024,
    },
    Explanation {
        name: "base64url has one spelling, without padding, white space and left-over bits",
        reason: Reason::Malformed,
        holds: |token| !token.is_canonical,
    },
    Explanation {
        name: "JSON is UTF-8 without a byte order mark",
        reason: Reason::Malformed,
        holds: |token| {
            token.parts.iter().any(|part| {
                let text = str::from_utf8(part);
                text.is_err() || text.is_ok_and(|text| text.starts_with('\u{feff}'))
            })
        },
    },
    Explanation {
        name: "no member is there twice",
        reason: Reason::Malformed,
        holds: |token| {
            token.has_text(|text| {
                let value = serde_json::from_str(text);
                value.is_ok_and(|value| members(&value) < members_written(text))
            })
        },
    },
    Explanation {
        name: "JSON has at most 16 levels",
        reason: Reason::Malformed,
        holds: |token| token.has_text(|text| levels_written(text) > 16),
    },
    Explanation {
        name: "a number is finite",
        reason: Reason::Malformed,
        holds: |token| token.has_text(|text| fault(text).contains("number out of range")),
    },
    Explanation {
        name: "half of a surrogate pair is no character",
        reason: Reason::Malformed,
        holds: |token| {
            token.has_text(|text| {
                let fault = fault(text);
                text.contains(r"\ud")
                    && (fault.contains("surrogate") || fault.contains("hex escape"))
            })
        },
    },
    Explanation {
        name: "kid and typ are text",
        reason: Reason::Malformed,
        holds: |token| {
            ["kid", "typ"].iter().any(|name| {
                let member = token.header.get(name);
                member.is_some_and(|member| !member.is_string())
            })
        },
    },
    Explanation {
        name: "b64, enc and zip, which nobody uses without crit, refuse",
        reason: Reason::Critical,
        holds: |token| {
            let names = ["b64", "enc", "zip"];
            names.iter().any(|name| token.header.get(name).is_some())
        },
    },
    Explanation {
        name: "typ is JWT or at+jwt unless the configuration says otherwise",
        reason: Reason::Type,
        holds: |token| {
            let kind = token.header["typ"].as_str().unwrap_or("JWT");
            let kind = kind.to_ascii_lowercase();
            let kind = kind.strip_prefix("application/").unwrap_or(&kind);
            !matches!(kind, "jwt" | "at+jwt")
        },
    },
    Explanation {
        name: "at_hash, c_hash and events are claims of other tokens",
        reason: Reason::Type,
        holds: |token| {
            let names = ["at_hash", "c_hash", "events"];
            names.iter().any(|name| token.claims.get(name).is_some())
        },
    },
    Explanation {
        name: "a token that is bound to a key of its holder is not for whoever bears it",
        reason: Reason::Bound,
        holds: |token| token.claims.get("cnf").is_some(),
    },
    Explanation {
        name: "claims that are text are text",
        reason: Reason::Claim,
        holds: |token| {
            TEXT.iter().any(|name| {
                let claim = token.claims.get(name);
                claim.is_some_and(|claim| !claim.is_string())
            })
        },
    },
    Explanation {
        name: "times are numbers from 1970 to 9999",
        reason: Reason::Claim,
        holds: |token| {
            ["exp", "nbf", "iat", "auth_time"].iter().any(|name| {
                let claim = token.claims.get(name);
                claim.is_some_and(|claim| {
                    let seconds = claim.as_f64().unwrap_or(-1.0);
                    !(0.0..253_402_300_800.0).contains(&seconds)
                })
            })
        },
    },
    Explanation {
        name: "lists are lists of text, and flags are true or false",
        reason: Reason::Claim,
        holds: |token| {
            let is_text = |claim: &Value| match claim {
                Value::Array(values) => values.iter().all(Value::is_string),
                claim => claim.is_string(),
            };
            let flag = token.claims.get("email_verified");
            flag.is_some_and(|flag| !flag.is_boolean())
                || ["aud", "groups", "scp"].iter().any(|name| {
                    let claim = token.claims.get(name);
                    claim.is_some_and(|claim| !is_text(claim))
                })
        },
    },
    Explanation {
        name: "a subject names somebody, in at most 255 bytes that can all be seen",
        reason: Reason::Subject,
        holds: |token| {
            let subject = token.claims["sub"].as_str().unwrap_or_default();
            !(1..=255).contains(&subject.len())
                || subject.trim() != subject
                || subject.contains(is_unseen)
        },
    },
    Explanation {
        name: "an RSA signature is as long as the modulus",
        reason: Reason::Signature,
        holds: |token| {
            let algorithm = token.header["alg"].as_str().unwrap_or_default();
            // 2048 bits in base64url.
            let length = token.text.rsplit('.').next().map(str::len);
            matches!(algorithm, "RS256" | "PS256") && length < Some(342)
        },
    },
    Explanation {
        name: "a key for EdDSA is one for Ed25519 too, and one of two is nobody's",
        reason: Reason::UnknownKey,
        holds: |token| token.header["alg"] == "Ed25519" && token.header.get("kid").is_none(),
    },
    Explanation {
        name: "nothing was issued in the future",
        reason: Reason::NotYetValid,
        holds: |token| {
            let issued = token.claims["iat"].as_f64();
            issued.is_some_and(|issued| issued > token.latest)
        },
    },
];

/// Why we accept what jose refuses: there is one reason, and it is none to refuse.
const ACCEPTED: &str = "Ed25519 is another name of EdDSA, for keys as for tokens (RFC 9864)";

/// Claims that we hold to be text.
const TEXT: [&str; 13] = [
    "sub",
    "jti",
    "azp",
    "client_id",
    "scope",
    "sid",
    "acr",
    "nonce",
    "at_hash",
    "c_hash",
    "name",
    "picture",
    "email",
];

/// A token as jose reads it.
struct Token<'a> {
    text: &'a str,
    /// Header and claims, decoded.
    parts: Vec<Vec<u8>>,
    header: Value,
    claims: Value,
    is_canonical: bool,
    /// The latest time that is not the future, in seconds since 1970.
    latest: f64,
}

// === impl Token ===

/// What jose takes for base64url.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl<'a> Token<'a> {
    fn new(text: &'a str, setting: &Setting) -> Self {
        let read = |part: &str| {
            let part = part.replace('-', "+").replace('_', "/");
            let part: String = part.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            FORGIVING.decode(part).unwrap_or_default()
        };
        let parts: Vec<_> = text.split('.').take(2).map(read).collect();
        let json = |part: Option<&Vec<u8>>| {
            let text = String::from_utf8_lossy(part.map(Vec::as_slice).unwrap_or_default());
            serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_default()
        };
        let is_canonical = |part: &str| URL_SAFE_NO_PAD.decode(part).is_ok();
        #[expect(clippy::cast_precision_loss, reason = "a time of these years is exact")]
        Self {
            text,
            header: json(parts.first()),
            claims: json(parts.get(1)),
            parts,
            is_canonical: text.split('.').all(is_canonical),
            latest: (setting.now + setting.leeway) as f64,
        }
    }

    /// Whether something holds of the JSON of header or claims.
    fn has_text(&self, holds: impl Fn(&str) -> bool) -> bool {
        let mut texts = self
            .parts
            .iter()
            .filter_map(|part| str::from_utf8(part).ok());
        texts.any(holds)
    }
}

/// What is wrong with a JSON text.
fn fault(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// The members of all objects in a value.
fn members(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(members).sum(),
        Value::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        _ => 0,
    }
}

/// The members that a JSON text writes, each as often as it does.
fn members_written(text: &str) -> usize {
    outside_of_strings(text).filter(|c| *c == ':').count()
}

/// How deep a JSON text nests.
fn levels_written(text: &str) -> usize {
    let (mut level, mut most) = (0_usize, 0);
    for c in outside_of_strings(text) {
        match c {
            '[' | '{' => level += 1,
            ']' | '}' => level = level.saturating_sub(1),
            _ => {}
        }
        most = most.max(level);
    }
    most
}

fn outside_of_strings(text: &str) -> impl Iterator<Item = char> {
    let (mut inside, mut escaped) = (false, false);
    text.chars().filter(move |c| {
        let was_inside = inside;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = inside,
            '"' => inside = !inside,
            _ => {}
        }
        !was_inside && !inside
    })
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

// === the comparison ===

/// What jose says, by the generator.
async fn ask_jose() -> Result<(Setting, Vec<Case>)> {
    let install = Kit::from_env()?.install;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("jose.jsonl");
    let mut command = install.command();
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/node/jose.mjs"))
        .arg("--modules")
        .arg(&install.modules)
        .args(["--seed", &env::var(SEED).unwrap_or_else(|_| "1".to_owned())])
        .stdout(fs::File::create(&path).expect("a file"))
        .stderr(Stdio::inherit());
    let status = command.status().await.expect("node runs");
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(&path).expect("what it printed");
    let mut lines = text.lines();
    let setting = serde_json::from_str(lines.next().unwrap_or_default()).expect("a setting");
    let cases = lines.map(|line| serde_json::from_str(line).expect("a case"));
    Ok((setting, cases.collect()))
}

/// Whether [`ACCEPTED`] says why.
fn is_renamed(token: &Token<'_>, code: &str) -> bool {
    token.header["alg"] == "Ed25519"
        && token.header["kid"] == "ed-alg"
        && code == "ERR_JWKS_NO_MATCHING_KEY"
}

fn verifier(setting: &Setting) -> JwtVerifier {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(setting.now);
    let config = JwtConfig::new(&setting.issuer, &setting.audience)
        .primary(true)
        .leeway(Duration::from_secs(setting.leeway))
        .clock(std::sync::Arc::new(move || now));
    JwtVerifier::with_jwk_set(config, &setting.jwks.to_string()).expect("usable keys")
}

#[tokio::test]
async fn d1_never_accepts_what_jose_refuses_and_says_why_it_refuses_more() -> Result<()> {
    let (setting, cases) = ask_jose().await?;
    let verifier = verifier(&setting);
    let (mut both_accept, mut both_refuse, mut renamed) = (0, 0, 0);
    let mut explained = BTreeMap::new();
    let mut faults = Vec::new();
    for case in &cases {
        let ours = verifier.verify(&case.token).await;
        // Remembered or not, the answer is one.
        let again = verifier.verify(&case.token).await;
        assert_eq!(
            ours.as_ref().err(),
            again.as_ref().err(),
            "{}: {}",
            case.kind,
            case.token
        );
        if let (Ok(identity), Some(subject)) = (&ours, &case.subject) {
            assert_eq!(
                **identity.subject(),
                **subject,
                "{}: {}",
                case.kind,
                case.token
            );
        }
        let reason = ours.err().map(|error| match error {
            VerifyError::Invalid(reason) => reason,
            error => panic!("{error}, without an issuer to ask"),
        });
        match (reason, &case.refused) {
            (None, None) => both_accept += 1,
            (Some(_), Some(_)) => both_refuse += 1,
            (None, Some(code)) if is_renamed(&Token::new(&case.token, &setting), code) => {
                renamed += 1;
            }
            (None, Some(code)) => faults.push(format!(
                "accepted, jose says {code}: {}: {}",
                case.kind, case.token
            )),
            (Some(reason), None) => {
                let token = Token::new(&case.token, &setting);
                let mut explanations = EXPLANATIONS.iter();
                match explanations.find(|one| one.reason == reason && (one.holds)(&token)) {
                    Some(explanation) => *explained.entry(explanation.name).or_insert(0) += 1,
                    None => faults.push(format!(
                        "refused ({reason:?}), jose does not: {}: {}",
                        case.kind, case.token
                    )),
                }
            }
        }
    }

    println!(
        "seed {}: {} tokens, {both_accept} accepted by both, {both_refuse} refused by both",
        setting.seed,
        cases.len()
    );
    for (name, count) in &explained {
        println!("{count:>6} refused by us alone: {name}");
    }
    println!("{renamed:>6} accepted by us alone: {ACCEPTED}");
    faults.truncate(20);
    assert!(
        faults.is_empty(),
        "{}\nwith {}",
        faults.join("\n"),
        setting.jwks
    );
    let unused = EXPLANATIONS
        .iter()
        .filter(|one| !explained.contains_key(one.name));
    let unused: Vec<_> = unused.map(|one| one.name).collect();
    assert!(
        unused.is_empty() && renamed > 0,
        "explains nothing: {unused:?}"
    );
    assert!(cases.len() >= LEAST && both_accept >= LEAST / 5 && both_refuse >= LEAST / 5);
    Ok(())
}
