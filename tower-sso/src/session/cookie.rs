use std::{net::IpAddr, time::Duration};

use http::{
    HeaderValue, Request,
    header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL},
};

use crate::{BearerHeader, TokenError, TokenSource, token::ClientAddress};

/// The session cookie of a browser, `__Host-session`.
///
/// Browsers take a cookie of such a name only from this very host, over TLS, for all paths (RFC 6265bis
/// section 4.1.3.2); they take `http://localhost` for safe as well. Two cookies of the name are an
/// error, also if they are equal: one of them was planted.
///
/// A browser sends the cookie with requests that other sites make it send. Whoever takes it must let
/// through such requests only as do no harm: check `Origin` of everything but GET and HEAD, and of every
/// WebSocket.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SessionCookie;

/// The bearer token of the `Authorization` header, or else the session cookie.
///
/// With an `Authorization` header, of whatever scheme, the cookie is not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct BearerOrCookie {
    subprotocol: bool,
}

/// A token among the protocols that a WebSocket offers: `bearer.<token>`, for browsers, in which
/// nothing else of a WebSocket's request can be chosen.
///
/// Only letters, digits, `-`, `_`, `.`, `~` and `+` can be there, as JWTs and all tokens of this crate
/// have. The server must answer with another one of the offered protocols, never with this. Nothing reads it
/// unless told so.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Subprotocol;

// === impl SessionCookie ===

impl SessionCookie {
    /// The name of the cookie.
    pub const NAME: &'static str = "__Host-session";

    /// Reads the `Cookie` header.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }

    /// A `Set-Cookie` header that gives the browser a session:
    /// [`Opened::cookie_value`](super::Opened::cookie_value).
    ///
    /// Without `max_age` the browser forgets it when it is closed. The server ends the session by its own
    /// clock all the same. A value that no cookie can have gives a header that takes the cookie away.
    #[must_use]
    pub fn set(value: &str, max_age: Option<Duration>) -> HeaderValue {
        let name = Self::NAME;
        if value.is_empty() || !value.bytes().all(is_cookie_octet) {
            return Self::clear();
        }
        let max_age =
            max_age.map_or_else(String::new, |age| format!("; Max-Age={}", age.as_secs()));
        let cookie = format!("{name}={value}{max_age}; Path=/; Secure; HttpOnly; SameSite=Lax");
        HeaderValue::try_from(cookie).map_or_else(
            |_| Self::clear(),
            |mut header| {
                header.set_sensitive(true);
                header
            },
        )
    }

    /// A `Set-Cookie` header that takes the session cookie away from the browser.
    #[must_use]
    pub const fn clear() -> HeaderValue {
        HeaderValue::from_static(
            "__Host-session=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax",
        )
    }
}

impl<B> TokenSource<Request<B>> for SessionCookie {
    fn token<'a>(&self, request: &'a Request<B>) -> Result<Option<&'a str>, TokenError> {
        // HTTP/2 may send one header for each cookie (RFC 9113 section 8.2.3).
        let headers = request.headers().get_all(COOKIE).iter();
        let cookies = headers.flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
        let mut values = cookies.filter_map(|cookie| {
            let rest = cookie.trim_ascii().strip_prefix(Self::NAME.as_bytes())?;
            rest.trim_ascii_start().strip_prefix(b"=")
        });
        let found = values.next();
        if values.next().is_some() {
            return Err(TokenError::Repeated);
        }
        match found.map(<[u8]>::trim_ascii_start) {
            None | Some(b"") => Ok(None),
            Some(value) if value.iter().copied().all(is_cookie_octet) => str::from_utf8(value)
                .map(Some)
                .or(Err(TokenError::Malformed)),
            Some(_) => Err(TokenError::Malformed),
        }
    }

    fn address(&self, request: &Request<B>) -> Option<IpAddr> {
        ClientAddress::find(request.extensions())
    }
}

// === impl BearerOrCookie ===

impl BearerOrCookie {
    /// Reads the `Authorization` header, or else the `Cookie` header.
    #[must_use]
    pub const fn new() -> Self {
        Self { subprotocol: false }
    }

    /// Says whether a token among the offered WebSocket protocols counts like a bearer token (see
    /// [`Subprotocol`]). Default: no.
    #[must_use]
    pub const fn subprotocol(mut self, read: bool) -> Self {
        self.subprotocol = read;
        self
    }
}

impl<B> TokenSource<Request<B>> for BearerOrCookie {
    fn token<'a>(&self, request: &'a Request<B>) -> Result<Option<&'a str>, TokenError> {
        let offered = match self.subprotocol {
            true => Subprotocol.token(request)?,
            false => None,
        };
        let has_header = request.headers().contains_key(AUTHORIZATION);
        match (offered, has_header) {
            (None, true) => BearerHeader::new().token(request),
            (None, false) => SessionCookie.token(request),
            (Some(token), false) => Ok(Some(token)),
            (Some(_), true) => Err(TokenError::Repeated),
        }
    }

    fn address(&self, request: &Request<B>) -> Option<IpAddr> {
        ClientAddress::find(request.extensions())
    }
}

// === impl Subprotocol ===

impl Subprotocol {
    /// Reads the `Sec-WebSocket-Protocol` header.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<B> TokenSource<Request<B>> for Subprotocol {
    fn token<'a>(&self, request: &'a Request<B>) -> Result<Option<&'a str>, TokenError> {
        let headers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let offered = headers.flat_map(|header| header.as_bytes().split(|byte| *byte == b','));
        let mut tokens =
            offered.filter_map(|protocol| protocol.trim_ascii().strip_prefix(b"bearer."));
        let Some(token) = tokens.next() else {
            return Ok(None);
        };
        if tokens.next().is_some() {
            return Err(TokenError::Repeated);
        }
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+".contains(byte);
        match str::from_utf8(token) {
            Ok(text) if !token.is_empty() && token.iter().all(fits) => Ok(Some(text)),
            _ => Err(TokenError::Malformed),
        }
    }

    fn address(&self, request: &Request<B>) -> Option<IpAddr> {
        ClientAddress::find(request.extensions())
    }
}

/// `cookie-octet` of RFC 6265 section 4.1.1.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn read(
        source: &impl TokenSource<Request<()>>,
        headers: &[(&'static str, &[u8])],
    ) -> Result<Option<String>, TokenError> {
        let mut request = Request::new(());
        *request.headers_mut() = headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value).unwrap();
                (http::HeaderName::from_static(name), value)
            })
            .collect::<HeaderMap>();
        Ok(source.token(&request)?.map(str::to_owned))
    }

    fn cookie(headers: &[&[u8]]) -> Result<Option<String>, TokenError> {
        let headers: Vec<_> = headers.iter().map(|value| ("cookie", *value)).collect();
        read(&SessionCookie::new(), &headers)
    }

    #[test]
    fn finds_the_cookie_among_others() {
        let found = Ok(Some("abc.d-e_f".to_owned()));
        for header in [
            &b"__Host-session=abc.d-e_f"[..],
            b"a=b; __Host-session=abc.d-e_f; c=d",
            b"a=b;__Host-session=abc.d-e_f;c=d",
            b"a=\xff\xfe; __Host-session=abc.d-e_f",
            b"; ;=; __Host-session = abc.d-e_f ;",
        ] {
            assert_eq!(cookie(&[header]), found, "{header:?}");
        }
        assert_eq!(cookie(&[b"a=b", b"__Host-session=abc.d-e_f"]), found);
    }

    #[test]
    fn other_names_and_empty_values_bring_nothing() {
        for header in [
            &b""[..],
            b"a=b",
            b"session=abc",
            b"__host-session=abc",
            b"__Host-session",
            b"__Host-session=",
            b"__Host-session2=abc",
            b"x__Host-session=abc",
            b"a=__Host-session=abc",
        ] {
            assert_eq!(cookie(&[header]), Ok(None), "{header:?}");
        }
    }

    #[test]
    fn d7_64_two_cookies_of_the_name_are_refused() {
        let repeated = Err(TokenError::Repeated);
        assert_eq!(cookie(&[b"__Host-session=a; __Host-session=b"]), repeated);
        assert_eq!(cookie(&[b"__Host-session=a; __Host-session=a"]), repeated);
        assert_eq!(
            cookie(&[b"__Host-session=a", b"__Host-session=b"]),
            repeated
        );
        assert_eq!(cookie(&[b"__Host-session=; __Host-session=b"]), repeated);
    }

    #[test]
    fn what_no_cookie_can_have_is_malformed() {
        for header in [
            &b"__Host-session=a b"[..],
            b"__Host-session=\"a\"",
            b"__Host-session=a,b",
            b"__Host-session=a\\b",
            b"__Host-session=\xc3\xa9",
        ] {
            assert_eq!(cookie(&[header]), Err(TokenError::Malformed), "{header:?}");
        }
    }

    #[test]
    fn with_an_authorization_header_the_cookie_is_not_looked_at() {
        let source = BearerOrCookie::new();
        let cookie = ("cookie", &b"__Host-session=c"[..]);
        let twice = ("cookie", &b"__Host-session=c; __Host-session=d"[..]);
        let bearer = ("authorization", &b"Bearer b"[..]);
        let token = |token: &str| Ok(Some(token.to_owned()));
        assert_eq!(read(&source, &[cookie]), token("c"));
        assert_eq!(read(&source, &[bearer, cookie]), token("b"));
        assert_eq!(read(&source, &[bearer, twice]), token("b"));
        assert_eq!(
            read(&source, &[("authorization", b"Basic x"), cookie]),
            Ok(None)
        );
        let malformed = read(&source, &[("authorization", b"Bearer "), cookie]);
        assert_eq!(malformed, Err(TokenError::Malformed));
    }

    #[test]
    fn a_subprotocol_is_read_only_where_it_is_asked_for() {
        let offer = ("sec-websocket-protocol", &b"chat, bearer.a.b-c_d"[..]);
        let cookie = ("cookie", &b"__Host-session=c"[..]);
        let bearer = ("authorization", &b"Bearer b"[..]);
        let token = |token: &str| Ok(Some(token.to_owned()));
        assert_eq!(read(&BearerOrCookie::new(), &[offer, cookie]), token("c"));
        assert_eq!(read(&BearerOrCookie::new(), &[offer]), Ok(None));
        let source = BearerOrCookie::new().subprotocol(true);
        assert_eq!(read(&source, &[offer, cookie]), token("a.b-c_d"));
        assert_eq!(read(&source, &[cookie]), token("c"));
        assert_eq!(read(&source, &[offer, bearer]), Err(TokenError::Repeated));
    }

    #[test]
    fn a_subprotocol_is_one_token_whole() {
        let offer = |value: &'static [u8]| read(&Subprotocol, &[("sec-websocket-protocol", value)]);
        assert_eq!(offer(b"chat"), Ok(None));
        assert_eq!(offer(b"bearer.a,bearer.b"), Err(TokenError::Repeated));
        for value in [
            &b"bearer."[..],
            b"bearer.a b",
            b"bearer.a/b",
            b"bearer.\xff",
        ] {
            assert_eq!(offer(value), Err(TokenError::Malformed), "{value:?}");
        }
    }

    #[test]
    fn d7_64_the_cookie_is_bound_to_the_host_and_hidden_from_scripts() {
        let header = SessionCookie::set("v1.ab.c-d", None);
        assert!(header.is_sensitive());
        assert_eq!(
            header,
            "__Host-session=v1.ab.c-d; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
        let header = SessionCookie::set("v", Some(Duration::from_secs(60)));
        assert_eq!(
            header,
            "__Host-session=v; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
        for value in ["", "a;b", "a b", "a\r\nset-cookie: c=d", "\u{e9}"] {
            assert_eq!(
                SessionCookie::set(value, None),
                SessionCookie::clear(),
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_set_is_read(value in "[A-Za-z0-9_.-]{1,200}") {
            let header = SessionCookie::set(&value, None);
            let pair = header.to_str().unwrap().split(';').next().unwrap().to_owned();
            prop_assert_eq!(cookie(&[pair.as_bytes()]), Ok(Some(value)));
        }

        #[test]
        fn no_header_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if HeaderValue::from_bytes(&bytes).is_ok() {
                let _ = cookie(&[&bytes]);
                let _ = read(&BearerOrCookie::new().subprotocol(true), &[("sec-websocket-protocol", &bytes)]);
            }
        }
    }
}
