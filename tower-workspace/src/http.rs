use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Extensions, HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};

use crate::{Bind, ResolveError, ResponseBody, Workspace};

/// [`Bind`] for HTTP: the user id is read from the request's extensions, where an authenticating
/// layer left it, and the workspace is put there as an `Arc<Workspace>`.
///
/// A refusal is JSON, `{"error":{"code","message","details"}}`, never stored by a cache:
///
/// | [`ResolveError`] | status | also |
/// | --- | --- | --- |
/// | `NoUser` | 401 | `WWW-Authenticate: Bearer` |
/// | `InvalidUser` | 403 | |
/// | `NotProvisioned` | 409 | |
/// | `Unavailable`, `Starting` | 503 | `Retry-After` in whole seconds |
///
/// A client is told nothing of the cause. The response carries it inside the server, as an
/// `Arc<ResolveError>` in its extensions, for a layer outside to log.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use tower_workspace::BindHttp;
///
/// #[derive(Clone)]
/// struct UserId(Arc<str>);
///
/// let bind = BindHttp::new(|extensions: &http::Extensions| {
///     extensions.get::<UserId>().map(|user_id| Arc::clone(&user_id.0))
/// });
/// ```
#[derive(Clone, Copy)]
pub struct BindHttp<F> {
    user_id: F,
}

// === impl BindHttp ===

impl<F> BindHttp<F>
where
    F: Fn(&Extensions) -> Option<Arc<str>>,
{
    /// A binding that finds the user id with `user_id`.
    pub fn new(user_id: F) -> Self {
        Self { user_id }
    }
}

impl<F, B, R> Bind<Request<B>, Response<R>> for BindHttp<F>
where
    F: Fn(&Extensions) -> Option<Arc<str>>,
{
    type Response = Response<ResponseBody<R>>;

    fn user_id(&self, req: &Request<B>) -> Option<Arc<str>> {
        (self.user_id)(req.extensions())
    }

    fn bind(&self, workspace: Arc<Workspace>, req: &mut Request<B>) {
        req.extensions_mut().insert(workspace);
    }

    fn pass(&self, res: Response<R>) -> Self::Response {
        res.map(ResponseBody::new)
    }

    fn reject(&self, _: Request<B>, error: ResolveError) -> Self::Response {
        refuse(error)
    }
}

impl<F> fmt::Debug for BindHttp<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindHttp").finish_non_exhaustive()
    }
}

fn refuse<R>(error: ResolveError) -> Response<ResponseBody<R>> {
    let (status, sentence) = match &error {
        ResolveError::NoUser => (
            StatusCode::UNAUTHORIZED,
            r#"{"error":{"code":"unauthorized","message":"Sign in first.","details":{}}}"#,
        ),
        ResolveError::InvalidUser(_) => (
            StatusCode::FORBIDDEN,
            r#"{"error":{"code":"workspace_invalid_user","message":"This user id can have no workspace.","details":{}}}"#,
        ),
        ResolveError::NotProvisioned => (
            StatusCode::CONFLICT,
            r#"{"error":{"code":"workspace_not_provisioned","message":"The workspace must be initialized first.","details":{}}}"#,
        ),
        ResolveError::Unavailable { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"error":{"code":"workspace_unavailable","message":"The workspace cannot be reached now.","details":{}}}"#,
        ),
        ResolveError::Starting { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"error":{"code":"workspace_starting","message":"The workspace is starting.","details":{}}}"#,
        ),
    };
    let mut res = Response::new(ResponseBody::full(Bytes::from_static(sentence.as_bytes())));
    *res.status_mut() = status;
    let headers = res.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 section 15.5.2: a 401 must carry a challenge.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    res.extensions_mut().insert(Arc::new(error));
    res
}

/// Rounded up and at least one, so that whoever obeys does not come too early.
fn whole_seconds(wait: Duration) -> u64 {
    let more = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(more).max(1)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::NameError;

    #[tokio::test]
    async fn every_refusal_has_its_status_code_and_wait() {
        let starting = |millis| ResolveError::Starting {
            retry_after: Duration::from_millis(millis),
        };
        for (error, status, wait) in [
            (ResolveError::NoUser, 401, None),
            (ResolveError::InvalidUser(NameError::Empty), 403, None),
            (ResolveError::NotProvisioned, 409, None),
            (ResolveError::unavailable("disk"), 503, Some("5")),
            (starting(1_001), 503, Some("2")),
            (starting(0), 503, Some("1")),
        ] {
            let code = error.code();
            let res = refuse::<Full<Bytes>>(error);
            assert_eq!(res.status(), status, "{code}");
            assert_eq!(res.headers()[CONTENT_TYPE], "application/json");
            assert_eq!(res.headers()[CACHE_CONTROL], "no-store");
            assert_eq!(res.headers().contains_key(WWW_AUTHENTICATE), status == 401);
            let retry_after = res.headers().get(RETRY_AFTER).map(|v| v.to_str().unwrap());
            assert_eq!(retry_after, wait, "{code}");

            let body = res.into_body().collect().await.unwrap().to_bytes();
            let start = format!(r#"{{"error":{{"code":"{code}","message":""#);
            assert!(body.starts_with(start.as_bytes()), "{body:?}");
            assert!(body.ends_with(br#"","details":{}}}"#), "{body:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_tells_its_cause_to_the_layers_outside_and_not_to_the_client() {
        let res = refuse::<Full<Bytes>>(ResolveError::unavailable("/secret/path: EIO"));
        let error = res.extensions().get::<Arc<ResolveError>>().unwrap();
        let cause = std::error::Error::source(&**error).unwrap();
        assert_eq!(cause.to_string(), "/secret/path: EIO");
        assert!(!format!("{:?}", res.headers()).contains("secret"));
        let body = res.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }
}
