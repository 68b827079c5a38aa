use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use thiserror::Error;

/// What every server appends to the client's key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request is not a WebSocket upgrade (RFC 6455 §4.2.1).
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// It does not ask for one.
    #[error("a WebSocket upgrade is needed here")]
    NotAnUpgrade,
    /// It asks for another version of the protocol.
    #[error("WebSocket version 13 is needed")]
    Version,
    /// Its key is missing, doubled or not 16 bytes.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
}

/// The answer that accepts an upgrade. No extension is accepted: a frame that is compressed would not be read, and an
/// unread frame is unmetered.
///
/// # Errors
///
/// See [`UpgradeError`].
pub fn accept<B>(req: &Request<B>) -> Result<Response<()>, UpgradeError> {
    let headers = req.headers();
    let upgrade = req.method() == Method::GET
        && req.version() == Version::HTTP_11
        && lists(headers, CONNECTION.as_str(), "upgrade")
        && single(headers, UPGRADE.as_str())
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !upgrade {
        return Err(UpgradeError::NotAnUpgrade);
    }
    if single(headers, SEC_WEBSOCKET_VERSION.as_str())
        .is_none_or(|version| version.as_bytes() != b"13")
    {
        return Err(UpgradeError::Version);
    }
    let key = single(headers, SEC_WEBSOCKET_KEY.as_str())
        .ok_or(UpgradeError::Key)?
        .as_bytes();
    if STANDARD.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
        return Err(UpgradeError::Key);
    }
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&STANDARD.encode(hash)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

/// The value of a header that must stand once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// Whether a header, which may be a list over several lines, holds a token.
fn lists(headers: &HeaderMap, name: &str, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<()> {
        Request::builder()
            .uri("/ws")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap()
    }

    #[test]
    fn the_example_of_rfc_6455_is_accepted() {
        let response = accept(&request()).unwrap();
        assert_eq!(
            response.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert!(!response.headers().contains_key("sec-websocket-extensions"));
    }

    #[test]
    fn d3_29_other_upgrades_are_refused() {
        let with = |change: fn(&mut Request<()>)| {
            let mut request = request();
            change(&mut request);
            accept(&request).map(|_| ())
        };
        assert_eq!(
            with(|r| *r.method_mut() = Method::POST),
            Err(UpgradeError::NotAnUpgrade)
        );
        assert_eq!(
            with(|r| *r.version_mut() = Version::HTTP_10),
            Err(UpgradeError::NotAnUpgrade)
        );
        for (name, value, error) in [
            ("connection", "keep-alive", UpgradeError::NotAnUpgrade),
            ("upgrade", "websocket, h2c", UpgradeError::NotAnUpgrade),
            ("upgrade", "h2c", UpgradeError::NotAnUpgrade),
            ("sec-websocket-version", "8", UpgradeError::Version),
            ("sec-websocket-key", "c2hvcnQ=", UpgradeError::Key),
            ("sec-websocket-key", "", UpgradeError::Key),
        ] {
            let mut request = request();
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
            assert_eq!(accept(&request).map(|_| ()), Err(error), "{name}: {value}");
        }
        let mut request = request();
        let again = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        request.headers_mut().append("sec-websocket-key", again);
        assert_eq!(
            accept(&request).map(|_| ()),
            Err(UpgradeError::Key),
            "two keys"
        );
    }
}
