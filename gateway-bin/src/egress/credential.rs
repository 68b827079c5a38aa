use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use tower_sso::{BearerHeader, Reject, Rejection, TokenError, TokenSource};

use super::refusal::refusal;
use crate::config::ProviderKind;

/// Where Anthropic's API has its key (API reference, "Authentication").
pub(super) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The virtual key of a model call, where the provider's own clients put a key: OpenAI's as a bearer token, Anthropic's
/// in `x-api-key` or as a bearer token, but not both.
#[derive(Clone, Copy, Debug)]
pub struct KeySource(pub ProviderKind);

/// Refuses a model call without a good virtual key, in the provider's form.
#[derive(Clone, Copy, Debug)]
pub struct RejectModelCall(pub ProviderKind);

// === impl KeySource ===

impl<B> TokenSource<Request<B>> for KeySource {
    fn token<'a>(&self, request: &'a Request<B>) -> Result<Option<&'a str>, TokenError> {
        let bearer = BearerHeader::new().token(request)?;
        if self.0 != ProviderKind::Anthropic {
            return Ok(bearer);
        }
        let mut keys = request.headers().get_all(X_API_KEY).iter();
        match (bearer, keys.next(), keys.next()) {
            (bearer, None, _) => Ok(bearer),
            (None, Some(key), None) => key.to_str().map(Some).map_err(|_| TokenError::Malformed),
            _ => Err(TokenError::Repeated),
        }
    }
}

// === impl RejectModelCall ===

impl<B, R> Reject<Request<B>, Response<R>> for RejectModelCall {
    type Response = Response<Either<R, Full<Bytes>>>;

    fn pass(&self, response: Response<R>) -> Self::Response {
        response.map(Either::Left)
    }

    fn reject(&self, _: Request<B>, rejection: Rejection) -> Self::Response {
        let unavailable = rejection == Rejection::Unavailable;
        let reason = if unavailable { "key_store" } else { "key" };
        metrics::counter!("gateway_refusals_total", "plane" => "egress", "reason" => reason)
            .increment(1);
        if unavailable {
            let message = "Keys cannot be checked right now.";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let mut refused = refusal(self.0, status, "key_check_unavailable", message);
            refused
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("2"));
            return refused;
        }
        let message = match (rejection, self.0) {
            (Rejection::MissingToken | Rejection::InvalidRequest(_), ProviderKind::Openai) => {
                "A virtual key is needed, once, in the header `Authorization: Bearer …`."
            }
            (Rejection::MissingToken | Rejection::InvalidRequest(_), ProviderKind::Anthropic) => {
                "A virtual key is needed, once, in the header `x-api-key`."
            }
            _ => "This virtual key is not known here, or was revoked.",
        };
        let mut refused = refusal(self.0, StatusCode::UNAUTHORIZED, "invalid_api_key", message);
        // RFC 9110 §15.5.2 wants one in each 401.
        let challenge = HeaderValue::from_static("Bearer realm=\"egress\"");
        refused.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(kind: ProviderKind, headers: &[(&str, &str)]) -> Result<Option<String>, TokenError> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        Ok(KeySource(kind).token(&request)?.map(str::to_owned))
    }

    #[test]
    fn a_key_is_where_the_providers_clients_put_it() {
        let (bearer, x_api_key) = (("authorization", "Bearer k"), ("x-api-key", "k"));
        for kind in [ProviderKind::Openai, ProviderKind::Anthropic] {
            assert_eq!(token(kind, &[]), Ok(None));
            assert_eq!(token(kind, &[bearer]), Ok(Some("k".to_owned())));
            assert_eq!(token(kind, &[bearer, bearer]), Err(TokenError::Repeated));
        }
        assert_eq!(token(ProviderKind::Openai, &[x_api_key]), Ok(None));
        let anthropic = |headers: &[_]| token(ProviderKind::Anthropic, headers);
        assert_eq!(anthropic(&[x_api_key]), Ok(Some("k".to_owned())));
        assert_eq!(anthropic(&[x_api_key, bearer]), Err(TokenError::Repeated));
        assert_eq!(
            anthropic(&[x_api_key, x_api_key]),
            Err(TokenError::Repeated)
        );
    }
}
