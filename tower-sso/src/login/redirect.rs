use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, LOCATION, UPGRADE},
};

use super::{form::encode, navigation::wants_page, return_to};
use crate::{Reject, RejectHttp, Rejection, ResponseBody};

/// Refuses as [`RejectHttp`] does, but sends browsers that are not signed in to the sign-in page.
///
/// That is: somebody who opens a page (a GET that the browser calls a navigation, or that accepts HTML
/// where it says nothing) without a session, or with one that is over, gets 302 to `login` with the
/// page to return to. Scripts, sockets and programs get 401 as ever: they could not follow.
///
/// The page is told as a path, so this serves one origin, and belongs outside of anything that changes
/// paths, such as axum's `nest`.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_sso::{SsoLayer, login::Login, session::{SessionCookie, Sessions}};
///
/// fn protect(login: &Login, sessions: Sessions) {
///     let layer = SsoLayer::new(Arc::new(sessions))
///         .source(SessionCookie::new())
///         .reject_with(login.redirect_to_sign_in());
///     # let _ = layer;
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RedirectToSignIn {
    login: Arc<str>,
    base: Arc<str>,
    others: RejectHttp,
}

// === impl RedirectToSignIn ===

impl RedirectToSignIn {
    pub(super) fn new(base: &str) -> Self {
        Self {
            login: format!("{base}/login").into(),
            base: base.into(),
            others: RejectHttp::new(),
        }
    }

    /// Sets how all others are refused. Default: [`RejectHttp::new`].
    #[must_use]
    pub fn others(mut self, reject: RejectHttp) -> Self {
        self.others = reject;
        self
    }

    fn location<B>(&self, request: &Request<B>) -> HeaderValue {
        let target = request.uri().path_and_query().map(|target| target.as_str());
        // One that sign-in would refuse is left out.
        let target = target.filter(|target| {
            let is_own = target
                .strip_prefix(&*self.base)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
            !is_own && return_to::is_target(target)
        });
        let location = match target {
            Some("/") | None => self.login.to_string(),
            Some(target) => format!("{}?{}", self.login, encode([("return_to", target)])),
        };
        HeaderValue::try_from(location).unwrap_or(HeaderValue::from_static("/"))
    }
}

impl<B, R> Reject<Request<B>, Response<R>> for RedirectToSignIn {
    type Response = Response<ResponseBody<R>>;

    fn pass(&self, response: Response<R>) -> Self::Response {
        response.map(ResponseBody::new)
    }

    fn reject(&self, request: Request<B>, rejection: Rejection) -> Self::Response {
        // A cookie that is there twice would be so again: that would go round for ever.
        let may_sign_in = matches!(
            rejection,
            Rejection::MissingToken | Rejection::InvalidToken(_)
        );
        let is_navigation = request.method() == Method::GET
            && !request.headers().contains_key(UPGRADE)
            && wants_page(request.headers());
        if !may_sign_in || !is_navigation {
            return self.others.reject(request, rejection);
        }
        let mut response = Response::new(ResponseBody::full(Bytes::new()));
        *response.status_mut() = StatusCode::FOUND;
        let headers = response.headers_mut();
        headers.insert(LOCATION, self.location(&request));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reason, TokenError};

    const HTML: (&str, &str) = ("accept", "text/html");

    fn answer(
        target: &str,
        headers: &[(&str, &str)],
        rejection: Rejection,
    ) -> Response<ResponseBody<String>> {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let policy = RedirectToSignIn::new("/auth");
        Reject::<_, Response<String>>::reject(&policy, request, rejection)
    }

    fn location(target: &str) -> String {
        let response = answer(target, &[HTML], Rejection::MissingToken);
        assert_eq!(response.status(), 302, "{target}");
        response.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_browser_is_sent_to_sign_in_and_back() {
        assert_eq!(location("/"), "/auth/login");
        assert_eq!(
            location("/chat/a%20b?c=d&e=%2F"),
            "/auth/login?return_to=%2Fchat%2Fa%2520b%3Fc%3Dd%26e%3D%252F"
        );
        assert_eq!(
            location("https://evil.example/a"),
            "/auth/login?return_to=%2Fa"
        );
    }

    #[test]
    fn d7_63_a_path_that_could_lead_elsewhere_is_not_returned_to() {
        for target in [
            "//evil.example",
            "/\\evil.example",
            "/%09/evil.example",
            "/auth/logout",
            "/auth",
        ] {
            assert_eq!(location(target), "/auth/login", "{target}");
        }
        assert_eq!(location("/authors"), "/auth/login?return_to=%2Fauthors");
    }

    #[test]
    fn d7_66_scripts_sockets_and_programs_get_401() {
        for headers in [
            &[][..],
            &[("accept", "*/*")],
            &[("accept", "application/json")],
            &[HTML, ("sec-fetch-mode", "cors")],
            &[HTML, ("sec-fetch-mode", "websocket")],
            &[HTML, ("upgrade", "websocket")],
            &[HTML, ("authorization", "Bearer x")],
        ] {
            let response = answer("/", headers, Rejection::MissingToken);
            assert_eq!(response.status(), 401, "{headers:?}");
            assert!(!response.headers().contains_key(LOCATION));
        }
        let request = Request::post("/")
            .header("accept", "text/html")
            .body(())
            .unwrap();
        let policy = RedirectToSignIn::new("/auth");
        let response =
            Reject::<_, Response<String>>::reject(&policy, request, Rejection::MissingToken);
        assert_eq!(
            response.status(),
            401,
            "a form cannot be sent again after signing in"
        );
    }

    #[test]
    fn d7_64_what_signing_in_does_not_change_is_not_sent_round() {
        for (rejection, status) in [
            (Rejection::InvalidToken(Reason::Expired), 302),
            (Rejection::InvalidToken(Reason::Unknown), 302),
            (Rejection::InvalidRequest(TokenError::Repeated), 400),
            (Rejection::Forbidden, 403),
            (Rejection::Unavailable, 503),
        ] {
            let response = answer("/", &[HTML], rejection.clone());
            assert_eq!(response.status(), status, "{rejection:?}");
        }
    }
}
