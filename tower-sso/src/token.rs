use std::net::{IpAddr, Ipv6Addr};

use http::{Extensions, header::AUTHORIZATION};
use thiserror::Error;

/// Finds the token in a request.
///
/// A closure is one too. A token in the query is not read by anything here: addresses end in logs
/// and in `Referer` (RFC 6750 section 5.3).
///
/// # Examples
///
/// ```
/// use tower_sso::{TokenError, TokenSource};
///
/// struct Hello { token: Option<String> }
///
/// fn from_hello(hello: &Hello) -> Result<Option<&str>, TokenError> {
///     Ok(hello.token.as_deref())
/// }
///
/// let hello = Hello { token: Some("abc".to_owned()) };
/// assert_eq!(from_hello.token(&hello), Ok(Some("abc")));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` finds no token in a `{Req}`",
    label = "not a `TokenSource<{Req}>`",
    note = "a function `fn(&{Req}) -> Result<Option<&str>, TokenError>` is a token source; \
            `BearerHeader` reads `http::Request` only"
)]
pub trait TokenSource<Req> {
    /// The token, or `None` if the request brings none.
    ///
    /// # Errors
    ///
    /// Any [`TokenError`]: the request tries to bring a token and does it wrong.
    fn token<'a>(&self, request: &'a Req) -> Result<Option<&'a str>, TokenError>;

    /// Whom the request comes from, if that is known: see [`Verify::verify_from`](crate::Verify::verify_from).
    ///
    /// Those for [`http::Request`] here find a [`ClientAddress`] in its extensions.
    fn address(&self, request: &Req) -> Option<IpAddr> {
        let _ = request;
        None
    }
}

/// Where the client of a request is, in the request's extensions: put there by a server that knows, which behind a proxy
/// is not the peer's address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAddress(pub IpAddr);

// === impl ClientAddress ===

impl ClientAddress {
    /// The network that counts as one client, named by its first address: for IPv6 the /64, which whoever has an address
    /// has whole (RFC 6177 section 2), for IPv4 the address itself, also where it is written as an IPv6 one.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_sso::ClientAddress;
    ///
    /// # fn main() -> Result<(), std::net::AddrParseError> {
    /// let network = |address: &str| Ok(ClientAddress(address.parse()?).network().to_string());
    /// assert_eq!(network("2001:db8::ffff:2")?, "2001:db8::");
    /// assert_eq!(network("::ffff:192.0.2.1")?, "192.0.2.1");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn network(&self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 64).into(),
            address => address,
        }
    }

    pub(crate) fn find(extensions: &Extensions) -> Option<IpAddr> {
        extensions.get().map(|Self(address)| *address)
    }
}

/// The bearer token of the `Authorization` header (RFC 6750 section 2.1).
///
/// The scheme is compared without case. A header of another scheme brings no token; two headers are
/// an error, since whoever is behind might read the other one.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct BearerHeader;

/// A request brings its token in a wrong way.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum TokenError {
    /// The credential is not `Bearer` followed by the characters a token may have.
    #[error("the credential is malformed")]
    Malformed,
    /// It comes with a proof of possession (`DPoP`, RFC 9449 section 7.1), which nobody here checks.
    #[error("tokens with a proof of possession are not taken")]
    Bound,
    /// There is more than one credential.
    #[error("there is more than one credential")]
    Repeated,
}

// === impl TokenSource ===

impl<F, Req> TokenSource<Req> for F
where
    F: for<'a> Fn(&'a Req) -> Result<Option<&'a str>, TokenError>,
{
    fn token<'a>(&self, request: &'a Req) -> Result<Option<&'a str>, TokenError> {
        self(request)
    }
}

// === impl BearerHeader ===

impl BearerHeader {
    /// Reads the `Authorization` header.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<B> TokenSource<http::Request<B>> for BearerHeader {
    fn token<'a>(&self, request: &'a http::Request<B>) -> Result<Option<&'a str>, TokenError> {
        let mut headers = request.headers().get_all(AUTHORIZATION).iter();
        let Some(header) = headers.next() else {
            return Ok(None);
        };
        if headers.next().is_some() {
            return Err(TokenError::Repeated);
        }
        // A credential of another scheme may hold anything.
        let bytes = header.as_bytes();
        let scheme_end = bytes.iter().position(|byte| *byte == b' ');
        let (scheme, rest) = bytes.split_at(scheme_end.unwrap_or(bytes.len()));
        if scheme.eq_ignore_ascii_case(b"dpop") {
            return Err(TokenError::Bound);
        }
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Ok(None);
        }
        // RFC 9110 section 11.4 allows one or more spaces after the scheme.
        let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
        let token = rest.get(spaces..).unwrap_or_default();
        match str::from_utf8(token) {
            Ok(token) if is_b64token(token) => Ok(Some(token)),
            _ => Err(TokenError::Malformed),
        }
    }

    fn address(&self, request: &http::Request<B>) -> Option<IpAddr> {
        ClientAddress::find(request.extensions())
    }
}

/// `b64token` of RFC 6750 section 2.1: `1*( ALPHA / DIGIT / "-._~+/" ) *"="`.
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty()
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// The longest token in bytes that anybody looks at: what common servers allow for a whole header
/// (nginx: `large_client_header_buffers 4 8k`), doubled.
pub(crate) const MAX_LENGTH: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::{BearerHeader, TokenError, TokenSource};

    fn token_of(values: &[&[u8]]) -> Result<Option<String>, TokenError> {
        let mut request = Request::builder();
        for value in values {
            request = request.header("authorization", *value);
        }
        let request = request.body(()).unwrap();
        Ok(BearerHeader::new().token(&request)?.map(str::to_owned))
    }

    #[test]
    fn reads_the_scheme_in_any_case() {
        for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
            let header = format!("{scheme} a.b-c_d~e+f/0==");
            assert_eq!(
                token_of(&[header.as_bytes()]),
                Ok(Some("a.b-c_d~e+f/0==".to_owned()))
            );
        }
        assert_eq!(token_of(&[b"Bearer   abc"]), Ok(Some("abc".to_owned())));
    }

    #[test]
    fn no_header_and_other_schemes_bring_no_token() {
        assert_eq!(token_of(&[]), Ok(None));
        assert_eq!(token_of(&[b"Basic dTpw"]), Ok(None));
        assert_eq!(token_of(&[b"BearerX abc"]), Ok(None));
        assert_eq!(token_of(&[b""]), Ok(None));
        assert_eq!(token_of(&[b"Digest \xff"]), Ok(None));
    }

    #[test]
    fn d1_20_a_proof_of_possession_is_not_ignored() {
        for header in [&b"DPoP a.b.c"[..], b"dpop a.b.c", b"DPoP"] {
            assert_eq!(token_of(&[header]), Err(TokenError::Bound));
        }
    }

    #[test]
    fn refuses_two_credentials_even_when_equal() {
        assert_eq!(
            token_of(&[b"Bearer a", b"Bearer a"]),
            Err(TokenError::Repeated)
        );
        assert_eq!(
            token_of(&[b"Basic dTpw", b"Bearer a"]),
            Err(TokenError::Repeated)
        );
    }

    #[test]
    fn refuses_what_is_not_a_b64token() {
        for header in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a,b",
            "Bearer \"a\"",
            "Bearer =",
            "Bearer a=b",
            "Bearer a\tb",
            "Bearer \ta",
            "Bearer tökén",
            "Bearer a, Bearer b",
        ] {
            assert_eq!(
                token_of(&[header.as_bytes()]),
                Err(TokenError::Malformed),
                "{header}"
            );
        }
    }

    #[test]
    fn d1_19_a_token_in_the_query_is_not_read() {
        let request = Request::get("/?access_token=abc&token=abc")
            .body(())
            .unwrap();
        assert_eq!(BearerHeader::new().token(&request), Ok(None));
    }

    proptest! {
        #[test]
        fn what_is_read_is_a_b64token_of_the_header(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut value = b"Bearer ".to_vec();
            value.extend(bytes);
            if let Ok(header) = http::HeaderValue::from_bytes(&value) {
                let request = Request::builder().header("authorization", header).body(()).unwrap();
                if let Ok(Some(token)) = BearerHeader::new().token(&request) {
                    prop_assert!(value.ends_with(token.as_bytes()));
                    prop_assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
                }
            }
        }
    }
}
