//! Whether issuers say where their keys are, and have keys that can be used.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::DATE;
use http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use tower_sso::jwt::{ConfigError, JwtConfig, JwtVerifier};

use super::http::Fetcher;
use super::report::Check;
use crate::clock;
use crate::config::{Issuer, IssuerKind};
use crate::sign_in::github_api_of;

/// Tokens of an issuer whose clock differs by more are refused: as much is allowed when they are verified.
const LEEWAY: Duration = Duration::from_secs(60);

/// Clocks that are kept by NTP differ by much less.
const DIFFERENCE: Duration = Duration::from_secs(10);

/// What of a discovery document the gateway needs (OpenID Connect Discovery 1.0 section 3, RFC 8414 section 2).
#[derive(Debug, Deserialize)]
struct Document {
    issuer: Option<String>,
    jwks_uri: Option<String>,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
}

/// Asks one issuer.
pub(super) async fn check(issuer: &Issuer, fetcher: &Fetcher) -> Vec<Check> {
    let about = format!("issuer {}", issuer.alias);
    let checked = match issuer.kind {
        IssuerKind::Github => github(issuer, fetcher).await,
        _ => discovered(issuer, fetcher).await,
    };
    match checked {
        Ok((well, notes)) => {
            let notes = notes.into_iter().map(|note| Check::note(&*about, note));
            std::iter::once(Check::ok(&*about, well))
                .chain(notes)
                .collect()
        }
        Err(wrong) => vec![Check::wrong(about, wrong)],
    }
}

/// What is well, and what somebody may not expect; an error is what is wrong.
type Found = Result<(String, Vec<String>), String>;

async fn github(issuer: &Issuer, fetcher: &Fetcher) -> Found {
    let api = github_api_of(issuer);
    let answer = fetcher.get(&api).await;
    let answer = answer.map_err(|why| unreachable(&api, &why))?;
    let notes = clock_note(answer.headers())?;
    match answer.status().is_server_error() {
        true => Err(format!(
            "{api} answers with status {}: try again later",
            answer.status()
        )),
        false => Ok((format!("{api} answers"), notes)),
    }
}

async fn discovered(issuer: &Issuer, fetcher: &Fetcher) -> Found {
    let url = &issuer.url;
    let base = url.strip_suffix('/').unwrap_or(url);
    let address = format!("{base}/.well-known/openid-configuration");
    let answer = fetch(fetcher, &address).await?;
    let mut notes = clock_note(answer.headers())?;
    let document: Document = serde_json::from_slice(answer.body()).map_err(|_| {
        format!(
            "{address} is no discovery document: `url` must be what the provider calls its issuer"
        )
    })?;
    name(url, document.issuer.as_deref())?;
    let keys = document.jwks_uri.as_deref().ok_or_else(|| {
        format!(
            "{address} names no `jwks_uri`, so that no token can be verified: take another issuer"
        )
    })?;
    let set = fetch(fetcher, keys).await?;
    usable(issuer, set.body()).map_err(|why| format!("{keys} {why}"))?;
    let mut can = "tokens can be verified";
    if issuer.introspection && document.introspection_endpoint.is_none() {
        return Err(format!(
            "{address} names no `introspection_endpoint`: remove `introspection`, or switch it on at the provider"
        ));
    }
    if issuer.client_id.is_some() {
        for (name, endpoint) in [
            ("authorization_endpoint", &document.authorization_endpoint),
            ("token_endpoint", &document.token_endpoint),
        ] {
            if endpoint.is_none() {
                return Err(format!(
                    "{address} names no `{name}`, so that nobody can sign in: remove `client_id`, or take another issuer"
                ));
            }
        }
        let methods = document.code_challenge_methods_supported;
        if methods.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            notes.push(
                "does not say that it checks PKCE with S256, which the gateway sends with every sign-in".to_owned(),
            );
        }
        can = "tokens can be verified and people can sign in";
    }
    Ok((format!("{url} answers; {can}"), notes))
}

async fn fetch(fetcher: &Fetcher, address: &str) -> Result<Response<Bytes>, String> {
    let answer = fetcher.get(address).await;
    let answer = answer.map_err(|why| unreachable(address, &why))?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status => Err(format!(
            "{address} answers with status {status}: `url` must be what the provider calls its issuer"
        )),
    }
}

fn unreachable(address: &str, why: &str) -> String {
    format!("{address} cannot be fetched: {why}")
}

/// Whether the document is this issuer's, byte for byte.
fn name(configured: &str, documented: Option<&str>) -> Result<(), String> {
    let Some(documented) = documented else {
        return Err("its discovery document does not name its issuer: take another one".to_owned());
    };
    if documented == configured {
        return Ok(());
    }
    let differ = match documented.trim_end_matches('/') == configured.trim_end_matches('/') {
        true if documented.ends_with('/') => ", with a slash at the end (as Auth0 does)",
        true => ", without a slash at the end",
        false => "",
    };
    Err(format!(
        "it calls itself `{documented}`{differ}, and tokens name it so: write `url = \"{documented}\"` in place of `{configured}`"
    ))
}

/// Whether a token could be verified by one of these keys.
fn usable(issuer: &Issuer, set: &[u8]) -> Result<(), String> {
    let set = std::str::from_utf8(set).map_err(|_| "is not a set of keys".to_owned())?;
    let config = JwtConfig::new(&issuer.url, &issuer.audience);
    match JwtVerifier::with_jwk_set(config, set) {
        Ok(_) => Ok(()),
        Err(ConfigError::KeyMismatch) => Err(
            "has no key for an algorithm that is allowed (RS256, PS256, ES256 and their like): have the provider sign with one"
                .to_owned(),
        ),
        Err(ConfigError::Key) => Err("has no key that can be used".to_owned()),
        Err(error) => Err(format!("cannot be used: {error}")),
    }
}

/// What the answer's `Date` says of the two clocks.
fn clock_note(headers: &HeaderMap) -> Result<Vec<String>, String> {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else {
        return Ok(Vec::new());
    };
    difference(clock::now(), date.timestamp().into())
}

fn difference(here: SystemTime, there: SystemTime) -> Result<Vec<String>, String> {
    let (apart, way) = match here.duration_since(there) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let says = format!(
        "this host's clock is {} seconds {way} the issuer's",
        apart.as_secs()
    );
    if apart > LEEWAY {
        return Err(format!(
            "{says}: its tokens are refused until NTP sets the clock"
        ));
    }
    Ok((apart > DIFFERENCE)
        .then(|| format!("{says}; more than 60 and its tokens are refused"))
        .into_iter()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_told_with_what_to_write() {
        assert_eq!(name("https://a.example", Some("https://a.example")), Ok(()));
        let slash = name("https://a.example", Some("https://a.example/")).unwrap_err();
        assert!(
            slash.contains("with a slash at the end (as Auth0 does)"),
            "{slash}"
        );
        assert!(
            slash.contains("write `url = \"https://a.example/\"`"),
            "{slash}"
        );
        let less = name("https://a.example/", Some("https://a.example")).unwrap_err();
        assert!(less.contains("without a slash"), "{less}");
        let other = name("https://a.example", Some("https://b.example")).unwrap_err();
        assert!(
            !other.contains("slash") && other.contains("https://b.example"),
            "{other}"
        );
        assert!(name("https://a.example", None).is_err());
    }

    #[test]
    fn clocks_that_are_apart_are_told_of_and_far_apart_are_wrong() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(difference(at(1_000), at(1_005)), Ok(Vec::new()));
        let note = difference(at(1_000), at(1_020)).unwrap();
        assert!(note[0].contains("20 seconds behind"), "{note:?}");
        let wrong = difference(at(1_100), at(1_000)).unwrap_err();
        assert!(wrong.contains("100 seconds ahead of"), "{wrong}");
        let mut headers = HeaderMap::new();
        assert_eq!(clock_note(&headers), Ok(Vec::new()), "it need not say");
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        assert!(clock_note(&headers).is_err());
    }

    #[test]
    fn keys_must_be_of_use() {
        let issuer: Issuer =
            toml::from_str("alias = \"a\"\nurl = \"https://a.example\"\naudience = \"b\"").unwrap();
        let says = |set: &str| usable(&issuer, set.as_bytes()).unwrap_err();
        assert_eq!(says("{\"keys\": []}"), "has no key that can be used");
        assert_eq!(says("<html>"), "has no key that can be used");
    }
}
