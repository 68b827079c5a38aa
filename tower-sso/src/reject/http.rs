use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use thiserror::Error;

use crate::{Reason, Reject, Rejection, ResponseBody, TokenError};

/// Refuses over HTTP as RFC 6750 section 3 says, with a JSON body.
///
/// | refusal | status | `WWW-Authenticate` | `error.code` |
/// | --- | --- | --- | --- |
/// | no token | 401 | `Bearer realm="…"` | `unauthorized` |
/// | proof of possession (`DPoP`), or a token bound to one (`cnf`) | 401 | `… error="invalid_token"` | `invalid_token` |
/// | malformed or repeated credential | 400 | `… error="invalid_request"` | `invalid_request` |
/// | bad token | 401 | `… error="invalid_token"` | `invalid_token` |
/// | scope missing | 403 | `… error="insufficient_scope", scope="…"` | `insufficient_scope` |
/// | group or role missing | 403 | `… error="insufficient_scope"` | `forbidden` |
/// | cannot verify now | 503, `Retry-After: 5` | – | `unavailable` |
///
/// The body is `{"error":{"code":"…","message":"…","details":{}}}` and says the same of every bad
/// token, but of one that is good and bound. Nothing may store it (`Cache-Control: no-store`).
#[derive(Clone, Debug)]
pub struct RejectHttp(Arc<Challenges>);

/// What has no variable part, made once.
#[derive(Debug)]
struct Challenges {
    /// `Bearer realm="…"`.
    plain: HeaderValue,
    invalid_request: HeaderValue,
    invalid_token: HeaderValue,
    insufficient_scope: HeaderValue,
}

/// The realm has characters that no quoted header value can hold as they are.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the realm must be printable ASCII without quote and backslash")]
#[non_exhaustive]
pub struct InvalidRealm;

// === impl RejectHttp ===

impl RejectHttp {
    /// Refuses in the realm `api`.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Challenges {
            plain: HeaderValue::from_static("Bearer realm=\"api\""),
            invalid_request: HeaderValue::from_static(
                "Bearer realm=\"api\", error=\"invalid_request\"",
            ),
            invalid_token: HeaderValue::from_static(
                "Bearer realm=\"api\", error=\"invalid_token\"",
            ),
            insufficient_scope: HeaderValue::from_static(
                "Bearer realm=\"api\", error=\"insufficient_scope\"",
            ),
        }))
    }

    /// Refuses in the given realm (RFC 9110 section 11.5).
    ///
    /// # Errors
    ///
    /// [`InvalidRealm`] if the realm is not printable ASCII, or has a quote or a backslash.
    pub fn with_realm(realm: &str) -> Result<Self, InvalidRealm> {
        if !realm.bytes().all(is_quotable) {
            return Err(InvalidRealm);
        }
        let challenge = |rest: &str| {
            HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{rest}"))
                .map_err(|_| InvalidRealm)
        };
        Ok(Self(Arc::new(Challenges {
            plain: challenge("")?,
            invalid_request: challenge(", error=\"invalid_request\"")?,
            invalid_token: challenge(", error=\"invalid_token\"")?,
            insufficient_scope: challenge(", error=\"insufficient_scope\"")?,
        })))
    }

    fn form(&self, rejection: &Rejection) -> (StatusCode, Option<HeaderValue>, &'static str) {
        match rejection {
            Rejection::MissingToken => (
                StatusCode::UNAUTHORIZED,
                Some(self.0.plain.clone()),
                r#"{"error":{"code":"unauthorized","message":"Authentication is required.","details":{}}}"#,
            ),
            Rejection::InvalidRequest(TokenError::Bound) => (
                StatusCode::UNAUTHORIZED,
                Some(self.0.invalid_token.clone()),
                r#"{"error":{"code":"invalid_token","message":"Tokens with a proof of possession (DPoP) are not taken here.","details":{}}}"#,
            ),
            Rejection::InvalidRequest(_) => (
                StatusCode::BAD_REQUEST,
                Some(self.0.invalid_request.clone()),
                r#"{"error":{"code":"invalid_request","message":"The credential is malformed or repeated.","details":{}}}"#,
            ),
            Rejection::InvalidToken(Reason::Bound) => (
                StatusCode::UNAUTHORIZED,
                Some(self.0.invalid_token.clone()),
                r#"{"error":{"code":"invalid_token","message":"Tokens that are bound to a key or a certificate are not taken here.","details":{}}}"#,
            ),
            Rejection::InvalidToken(_) => (
                StatusCode::UNAUTHORIZED,
                Some(self.0.invalid_token.clone()),
                r#"{"error":{"code":"invalid_token","message":"The token is not valid.","details":{}}}"#,
            ),
            Rejection::InsufficientScope { scope } => (
                StatusCode::FORBIDDEN,
                Some(self.name_scope(scope)),
                r#"{"error":{"code":"insufficient_scope","message":"The token does not allow this.","details":{}}}"#,
            ),
            Rejection::Forbidden => (
                StatusCode::FORBIDDEN,
                Some(self.0.insufficient_scope.clone()),
                r#"{"error":{"code":"forbidden","message":"You may not do this.","details":{}}}"#,
            ),
            Rejection::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                None,
                r#"{"error":{"code":"unavailable","message":"Tokens cannot be verified at the moment.","details":{}}}"#,
            ),
        }
    }

    /// The challenge with the scopes that are needed; without them if they cannot be quoted.
    fn name_scope(&self, scope: &Arc<str>) -> HeaderValue {
        let plain = &self.0.insufficient_scope;
        if !scope.bytes().all(is_quotable) {
            return plain.clone();
        }
        let mut value = plain.as_bytes().to_vec();
        value.extend_from_slice(b", scope=\"");
        value.extend_from_slice(scope.as_bytes());
        value.push(b'"');
        HeaderValue::try_from(value).unwrap_or_else(|_| plain.clone())
    }
}

impl Default for RejectHttp {
    fn default() -> Self {
        Self::new()
    }
}

impl<B, R> Reject<Request<B>, Response<R>> for RejectHttp {
    type Response = Response<ResponseBody<R>>;

    fn pass(&self, response: Response<R>) -> Self::Response {
        response.map(ResponseBody::new)
    }

    fn reject(&self, _request: Request<B>, rejection: Rejection) -> Self::Response {
        let (status, challenge, body) = self.form(&rejection);
        let mut response = Response::new(ResponseBody::full(Bytes::from_static(body.as_bytes())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match challenge {
            Some(challenge) => headers.insert(WWW_AUTHENTICATE, challenge),
            None => headers.insert(RETRY_AFTER, HeaderValue::from_static("5")),
        };
        response
    }
}

/// What stands in a quoted string as it is (`qdtext` of RFC 9110 section 5.6.4, ASCII only).
const fn is_quotable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::Reason;

    fn refuse(policy: &RejectHttp, rejection: Rejection) -> Response<ResponseBody<String>> {
        Reject::<_, Response<String>>::reject(policy, Request::new(()), rejection)
    }

    fn challenge(response: &Response<ResponseBody<String>>) -> Option<&str> {
        response
            .headers()
            .get(WWW_AUTHENTICATE)
            .map(|value| value.to_str().unwrap())
    }

    #[tokio::test]
    async fn each_refusal_has_its_status_challenge_and_code() {
        let table = [
            (
                Rejection::MissingToken,
                401,
                Some(r#"Bearer realm="api""#),
                "unauthorized",
            ),
            (
                Rejection::InvalidRequest(TokenError::Repeated),
                400,
                Some(r#"Bearer realm="api", error="invalid_request""#),
                "invalid_request",
            ),
            (
                Rejection::InvalidToken(Reason::Expired),
                401,
                Some(r#"Bearer realm="api", error="invalid_token""#),
                "invalid_token",
            ),
            (
                Rejection::InsufficientScope {
                    scope: "read write".into(),
                },
                403,
                Some(r#"Bearer realm="api", error="insufficient_scope", scope="read write""#),
                "insufficient_scope",
            ),
            (
                Rejection::Forbidden,
                403,
                Some(r#"Bearer realm="api", error="insufficient_scope""#),
                "forbidden",
            ),
            (Rejection::Unavailable, 503, None, "unavailable"),
        ];
        for (rejection, status, wanted, code) in table {
            let response = refuse(&RejectHttp::new(), rejection);
            assert_eq!(response.status(), status, "{code}");
            assert_eq!(challenge(&response), wanted, "{code}");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store", "{code}");
            assert_eq!(
                response.headers()[CONTENT_TYPE],
                "application/json",
                "{code}"
            );
            assert_eq!(
                response.headers().contains_key(RETRY_AFTER),
                status == 503,
                "{code}"
            );
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let text = str::from_utf8(&body).unwrap();
            assert!(
                text.starts_with(&format!(r#"{{"error":{{"code":"{code}","message":""#)),
                "{text}"
            );
            assert!(text.ends_with(r#"","details":{}}}"#), "{text}");
        }
    }

    #[tokio::test]
    async fn every_bad_token_gets_the_same_answer() {
        let mut answers = Vec::new();
        // Whose token is bound has a good one.
        let bad = Reason::ALL
            .iter()
            .filter(|reason| **reason != Reason::Bound);
        for reason in bad {
            let response = refuse(&RejectHttp::new(), Rejection::InvalidToken(*reason));
            let headers = response.headers().clone();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            answers.push((headers, body));
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "an attacker could tell reasons apart");
    }

    #[tokio::test]
    async fn d1_20_who_sends_a_token_bound_to_a_key_reads_why_it_is_refused() {
        let bound = Rejection::InvalidToken(Reason::Bound);
        let response = refuse(&RejectHttp::new(), bound);
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = str::from_utf8(&body).unwrap();
        assert!(text.contains("bound to a key or a certificate"), "{text}");
    }

    #[test]
    fn the_realm_can_be_named_but_not_break_out_of_its_quotes() {
        let policy = RejectHttp::with_realm("open claw").unwrap();
        let response = refuse(&policy, Rejection::MissingToken);
        assert_eq!(challenge(&response), Some(r#"Bearer realm="open claw""#));
        for realm in ["a\"b", "a\\b", "a\r\nb", "ä", "\u{7f}"] {
            assert!(RejectHttp::with_realm(realm).is_err(), "{realm:?}");
        }
    }

    #[test]
    fn a_scope_that_cannot_be_quoted_is_left_out() {
        let scope = Rejection::InsufficientScope {
            scope: "a\" b".into(),
        };
        assert_eq!(
            challenge(&refuse(&RejectHttp::new(), scope)),
            Some(r#"Bearer realm="api", error="insufficient_scope""#)
        );
    }

    #[tokio::test]
    async fn what_passes_is_left_as_it_is() {
        let inner = Response::builder()
            .status(207)
            .header("x", "y")
            .body("hello".to_owned())
            .unwrap();
        let response = Reject::<Request<()>, _>::pass(&RejectHttp::new(), inner);
        assert_eq!(response.status(), 207);
        assert_eq!(response.headers()["x"], "y");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "hello");
    }
}
