//! What no route takes, wherever it stands in a path or a query.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Uri;
use percent_encoding::percent_decode_str;

use super::ApiError;

/// Below it, parts of paths name people and things.
const API: &str = "/api/";

/// Longest name in a path, in bytes: a user id is an issuer's alias and a subject of 255 bytes at most. A store cannot keep
/// names of any length.
pub(super) const MAX_NAME: usize = 512;

/// Refuses what a store cannot keep, or what is read in two ways: NUL, and a path that is not UTF-8.
pub(super) async fn check(request: Request, next: Next) -> Response {
    match checked(request.uri()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn checked(uri: &Uri) -> Result<(), ApiError> {
    let has_nul = |text: &str| percent_decode_str(text).any(|byte| byte == 0);
    if has_nul(uri.path()) || uri.query().is_some_and(has_nul) {
        let message = "neither the path nor the query may have a NUL character";
        return Err(ApiError::bad_request(message));
    }
    let Some(names) = uri.path().strip_prefix(API) else {
        return Ok(());
    };
    for name in names.split('/') {
        let name = percent_decode_str(name).decode_utf8();
        let name = name.map_err(|_| ApiError::bad_request("the path must be UTF-8"))?;
        if name.len() > MAX_NAME {
            let message = format!("a name in the path must have {MAX_NAME} bytes at most");
            return Err(ApiError::bad_request(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_store_can_keep_comes_to_a_route() {
        let is_ok = |uri: &str| checked(&uri.parse().expect("a URI")).is_ok();
        let long = |length| format!("/api/keys/{}", "%61".repeat(length));
        assert!(is_ok("/api/keys/%25%30%30?a=%2500&b=%C3%A4"));
        assert!(is_ok("/assets/%ff"), "what is not ours is not judged");
        assert!(is_ok(&long(MAX_NAME)));
        for refused in ["/api/keys/%00", "/%00", "/?a=%00", "/api/keys/%ff"] {
            assert!(!is_ok(refused), "{refused}");
        }
        assert!(!is_ok(&long(MAX_NAME + 1)));
    }
}
