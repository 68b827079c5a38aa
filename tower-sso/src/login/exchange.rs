use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Map, Value};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{
    form::{encode, escape},
    metadata::{LIMIT, Metadata, TIMEOUT},
    provider::{ClientAuth, Provider},
};
use crate::{HttpClient, jwt::parse_object};

/// What is given for tokens.
pub(super) enum Grant<'a> {
    Code {
        code: &'a str,
        verifier: &'a str,
        redirect_uri: &'a str,
    },
    Refresh {
        token: &'a str,
    },
}

/// What a token endpoint gives (RFC 6749 section 5.1).
pub(super) struct Tokens {
    pub(super) access: Zeroizing<String>,
    pub(super) refresh: Option<Zeroizing<String>>,
    pub(super) id: Option<Zeroizing<String>>,
    pub(super) expires_in: Option<Duration>,
}

/// Why a token endpoint gives nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ExchangeError {
    /// What was given is not, or no longer, worth anything (`invalid_grant`).
    InvalidGrant,
    /// The provider does not accept this client or its request.
    Misconfigured,
    /// There is no answer, or none that can be read.
    Unavailable,
}

/// The longest token that is taken, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Asks the token endpoint.
pub(super) async fn exchange(
    client: &dyn HttpClient,
    provider: &Provider,
    metadata: &Metadata,
    grant: &Grant<'_>,
) -> Result<Tokens, ExchangeError> {
    let request = request(provider, metadata, grant)?;
    let response = match timeout(TIMEOUT, client.send(request, LIMIT)).await {
        Ok(Ok(response)) => response,
        // The error may hold the address of the request but not its body; still it is not shown.
        Ok(Err(_)) => {
            tracing::warn!(
                provider = &*provider.alias,
                "the token endpoint cannot be reached"
            );
            return Err(ExchangeError::Unavailable);
        }
        Err(_) => {
            tracing::warn!(
                provider = &*provider.alias,
                "the token endpoint does not answer"
            );
            return Err(ExchangeError::Unavailable);
        }
    };
    let tokens = read(&response);
    if let Err(error) = &tokens {
        tracing::warn!(
            provider = &*provider.alias,
            status = response.status().as_u16(),
            error = error.as_str(),
            "the token endpoint gives no tokens"
        );
    }
    tokens
}

fn request(
    provider: &Provider,
    metadata: &Metadata,
    grant: &Grant<'_>,
) -> Result<Request<Bytes>, ExchangeError> {
    let mut pairs = match grant {
        Grant::Code {
            code,
            verifier,
            redirect_uri,
        } => vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ],
        Grant::Refresh { token } => {
            vec![("grant_type", "refresh_token"), ("refresh_token", token)]
        }
    };
    let mut basic = None;
    match provider.client_auth.unwrap_or(metadata.client_auth) {
        ClientAuth::Post => {
            pairs.push(("client_id", &provider.client_id));
            pairs.push(("client_secret", &provider.client_secret));
        }
        ClientAuth::Basic => basic = Some(basic_credentials(provider)?),
    }
    let mut request = Request::new(Bytes::from(encode(pairs)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = metadata.token.clone();
    let headers = request.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(basic) = basic {
        headers.insert(AUTHORIZATION, basic);
    }
    Ok(request)
}

/// RFC 6749 section 2.3.1: id and secret are escaped before they are joined.
fn basic_credentials(provider: &Provider) -> Result<HeaderValue, ExchangeError> {
    let mut pair = Zeroizing::new(String::new());
    escape(&provider.client_id, &mut pair);
    pair.push(':');
    escape(&provider.client_secret, &mut pair);
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text).map_err(|_| ExchangeError::Misconfigured)?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(response: &Response<Bytes>) -> Result<Tokens, ExchangeError> {
    let status = response.status();
    let text = str::from_utf8(response.body()).unwrap_or_default();
    let members = parse_object(text);
    // GitHub says `error` with status 200.
    let error = members.as_ref().and_then(|members| members.get("error"));
    if let Some(error) = error {
        return Err(ExchangeError::of_code(error.as_str().unwrap_or_default()));
    }
    match members {
        Some(members) if status == StatusCode::OK => {
            Tokens::read(members).ok_or(ExchangeError::Unavailable)
        }
        _ if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            Err(ExchangeError::Misconfigured)
        }
        _ => Err(ExchangeError::Unavailable),
    }
}

// === impl Tokens ===

impl Tokens {
    fn read(mut members: Map<String, Value>) -> Option<Self> {
        let kind = text(&mut members, "token_type")??;
        if !kind.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let expires_in = match members.remove("expires_in") {
            None | Some(Value::Null) => None,
            // Some providers send the number as text.
            Some(Value::String(text)) => Some(text.parse().ok()?),
            Some(number) => Some(number.as_f64()?),
        };
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
        Some(Self {
            access: text(&mut members, "access_token")??,
            refresh: text(&mut members, "refresh_token")?,
            id: text(&mut members, "id_token")?,
            expires_in: match expires_in {
                Some(number) => Some(seconds(number)?),
                None => None,
            },
        })
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// A member that is text or absent; `None` if it is anything else.
fn text(members: &mut Map<String, Value>, name: &str) -> Option<Option<Zeroizing<String>>> {
    match members.remove(name) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) if (1..=MAX_TOKEN).contains(&text.len()) => {
            Some(Some(Zeroizing::new(text)))
        }
        Some(_) => None,
    }
}

// === impl ExchangeError ===

impl ExchangeError {
    /// The error of RFC 6749 section 5.2, or of GitHub ("Troubleshooting OAuth app access token request
    /// errors", "Refreshing user access tokens").
    fn of_code(code: &str) -> Self {
        match code {
            "invalid_grant" | "bad_verification_code" | "bad_refresh_token" => Self::InvalidGrant,
            "temporarily_unavailable" | "server_error" | "slow_down" => Self::Unavailable,
            _ => Self::Misconfigured,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant",
            Self::Misconfigured => "misconfigured",
            Self::Unavailable => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Tokens, ExchangeError> {
        let response = Response::builder().status(status);
        read(&response.body(Bytes::from(body.to_owned())).unwrap())
    }

    fn error(status: u16, body: &str) -> Option<ExchangeError> {
        answer(status, body).err()
    }

    #[test]
    fn tokens_are_read() {
        let tokens = answer(
            200,
            r#"{"access_token":"a","token_type":"BEARER","refresh_token":"r","id_token":"i","expires_in":300,"x":1}"#,
        )
        .unwrap();
        assert_eq!(**tokens.access, *"a");
        assert_eq!(tokens.refresh.as_deref().map(String::as_str), Some("r"));
        assert_eq!(tokens.id.as_deref().map(String::as_str), Some("i"));
        assert_eq!(tokens.expires_in, Some(Duration::from_secs(300)));
        let tokens = answer(
            200,
            r#"{"access_token":"a","token_type":"bearer","expires_in":"300","refresh_token":null}"#,
        );
        let tokens = tokens.unwrap();
        assert_eq!(tokens.expires_in, Some(Duration::from_secs(300)));
        assert!(tokens.refresh.is_none());
    }

    #[test]
    fn what_is_no_answer_of_a_token_endpoint_gives_none() {
        for body in [
            "",
            "[]",
            "<html>",
            "{}",
            r#"{"access_token":"a"}"#,
            r#"{"token_type":"bearer"}"#,
            r#"{"access_token":"","token_type":"bearer"}"#,
            r#"{"access_token":1,"token_type":"bearer"}"#,
            r#"{"access_token":"a","token_type":"DPoP"}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
            r#"{"access_token":"a","access_token":"b","token_type":"bearer"}"#,
            r#"{"access_token":"a","token_type":"bearer","id_token":{}}"#,
            r#"{"access_token":"a","token_type":"bearer","refresh_token":7}"#,
            r#"{"access_token":"a","token_type":"bearer","expires_in":-1}"#,
            r#"{"access_token":"a","token_type":"bearer","expires_in":"soon"}"#,
            r#"{"access_token":"a","token_type":"bearer","expires_in":[]}"#,
            r#"{"access_token":"a","token_type":"bearer","expires_in":1e300}"#,
        ] {
            assert_eq!(error(200, body), Some(ExchangeError::Unavailable), "{body}");
        }
        let long = "a".repeat(MAX_TOKEN + 1);
        let body = format!(r#"{{"access_token":"{long}","token_type":"bearer"}}"#);
        assert_eq!(error(200, &body), Some(ExchangeError::Unavailable));
    }

    #[test]
    fn errors_are_told_apart_by_what_is_to_be_done() {
        use ExchangeError::*;
        for (status, body, wanted) in [
            (400, r#"{"error":"invalid_grant"}"#, InvalidGrant),
            (200, r#"{"error":"bad_verification_code"}"#, InvalidGrant),
            (401, r#"{"error":"invalid_client"}"#, Misconfigured),
            (400, r#"{"error":"unauthorized_client"}"#, Misconfigured),
            (
                200,
                r#"{"error":"incorrect_client_credentials"}"#,
                Misconfigured,
            ),
            (400, r#"{"error":{}}"#, Misconfigured),
            (403, "<html>", Misconfigured),
            (503, r#"{"error":"temporarily_unavailable"}"#, Unavailable),
            (500, "", Unavailable),
            (429, "", Unavailable),
            (302, "", Unavailable),
            (
                201,
                r#"{"access_token":"a","token_type":"bearer"}"#,
                Unavailable,
            ),
        ] {
            assert_eq!(error(status, body), Some(wanted), "{status} {body}");
        }
    }

    #[test]
    fn d8_71_debug_shows_no_token() {
        let tokens = answer(200, r#"{"access_token":"canary","token_type":"bearer"}"#).unwrap();
        assert!(!format!("{tokens:?}").contains("canary"));
    }

    #[test]
    fn the_secret_is_escaped_before_it_is_joined() {
        let provider = Provider::google().client("a:b", "c/d~%");
        let value = basic_credentials(&provider).unwrap();
        let wanted = format!("Basic {}", STANDARD.encode("a%3Ab:c%2Fd~%25"));
        assert_eq!(value, wanted.as_str());
        assert!(value.is_sensitive());
    }
}
