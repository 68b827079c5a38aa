//! What pages of other origins may do: nothing, but for those that the operator names.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN};
use http::{Method, StatusCode};
use thiserror::Error;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::csrf::{CsrfLayer, ProtectionError};

use super::ApiError;

/// How long a browser may keep the answer to a preflight.
const PREFLIGHT: Duration = Duration::from_secs(600);

/// The origins that a browser may talk to us from; clones share them.
#[derive(Clone, Debug)]
pub struct Origins(std::sync::Arc<[HeaderValue]>);

/// An origin is not one.
#[derive(Debug, Error)]
#[error("`{0}` is not an origin")]
pub struct NotAnOrigin(String);

/// Refuses a request that another origin's page makes in the name of whoever is signed in.
type Refuse = fn(ProtectionError) -> Response;

// === impl Origins ===

impl Origins {
    /// Our own origin, and those of the operator's further pages.
    ///
    /// # Errors
    ///
    /// [`NotAnOrigin`] names the one that is none.
    pub fn new<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self, NotAnOrigin> {
        let origins = origins.into_iter().map(|origin| {
            let checked = CsrfLayer::new().add_trusted_origin(origin).is_ok();
            HeaderValue::from_str(origin)
                .ok()
                .filter(|_| checked)
                .ok_or_else(|| NotAnOrigin(origin.to_owned()))
        });
        origins
            .collect::<Result<Vec<_>, _>>()
            .map(|all| Self(all.into()))
    }

    /// Whether a WebSocket upgrade that a cookie signs in comes from one of these pages: browsers let any page open one,
    /// with the cookie, and only say which page it was (RFC 6455 §10.2). Compared byte for byte; a header that is
    /// missing or stands twice is no word.
    #[must_use]
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let mut named = headers.get_all(ORIGIN).iter();
        match (named.next(), named.next()) {
            (Some(origin), None) => self.0.contains(origin),
            _ => false,
        }
    }

    /// Lets pages of these origins read answers, with the cookie; no other origin is named in an answer.
    pub(super) fn cors(&self) -> CorsLayer {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(self.0.iter().cloned()))
            .allow_credentials(true)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers([AUTHORIZATION, CONTENT_TYPE])
            .max_age(PREFLIGHT)
    }

    /// Refuses requests that change something and come from a page of another origin.
    ///
    /// # Errors
    ///
    /// [`NotAnOrigin`], which [`new`](Self::new) has excluded.
    pub(super) fn csrf(&self) -> Result<CsrfLayer<Refuse>, NotAnOrigin> {
        let mut layer = CsrfLayer::new();
        for origin in self.0.iter().filter_map(|origin| origin.to_str().ok()) {
            layer = layer
                .add_trusted_origin(origin)
                .map_err(|_| NotAnOrigin(origin.to_owned()))?;
        }
        Ok(layer.with_rejection_response(refuse as Refuse))
    }
}

fn refuse(_: ProtectionError) -> Response<Body> {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "cross_origin",
        "a page of another origin may not do this",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origins: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        Origins::new(["https://app.example.com", "http://127.0.0.1:3000"])
            .unwrap()
            .allow(&headers)
    }

    #[test]
    fn d3_28_only_the_named_origins_open_a_socket_with_a_cookie() {
        assert!(allows(&["https://app.example.com"]));
        assert!(allows(&["http://127.0.0.1:3000"]));
        for origins in [
            &[][..],
            &["null"],
            &[""],
            &["https://app.example.com.evil"],
            &["https://evil.app.example.com"],
            &["https://app.example.com:8443"],
            &["https://app.example.com:443"],
            &["http://app.example.com"],
            &["https://APP.example.com"],
            &["https://app.example.com/"],
            &["https://app.example.com@evil"],
            &["https://xn--pp-fka.example.com"],
            &["https://app.example.com", "https://app.example.com"],
            &["https://evil", "https://app.example.com"],
        ] {
            assert!(!allows(origins), "{origins:?}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_at_the_start() {
        for origin in [
            "app.example.com",
            "https://app.example.com/x",
            "file:///x",
            "*",
        ] {
            assert!(Origins::new([origin]).is_err(), "{origin}");
        }
    }
}
