use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tower::ServiceExt;
use tower_sso::HttpFuture;

use super::*;

const ORIGIN: &str = "http://localhost:3000";

/// A provider that only says where it is.
#[expect(clippy::needless_pass_by_value, reason = "as `HttpClient` has it")]
fn provider(request: Request<Bytes>, _limit: usize) -> HttpFuture {
    assert_eq!(
        request.uri(),
        "https://idp.example/.well-known/openid-configuration"
    );
    let document = r#"{
        "issuer": "https://idp.example",
        "authorization_endpoint": "https://idp.example/authorize",
        "token_endpoint": "https://idp.example/token",
        "jwks_uri": "https://idp.example/keys"
    }"#;
    HttpFuture::ready(Ok(Response::new(Bytes::from(document))))
}

async fn get(target: &str, accept: &str) -> (u16, HeaderMap) {
    let idp = Provider::oidc("https://idp.example").client("id", "secret");
    let keys = SealingKeys::new([[7; 32]]).unwrap();
    let app = app(Arc::new(provider), idp, keys, ORIGIN).unwrap();
    let request = Request::get(target).header("accept", accept);
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await;
    let (parts, _) = response.unwrap().into_parts();
    (parts.status.as_u16(), parts.headers)
}

#[tokio::test]
async fn a_browser_is_sent_to_sign_in_and_on_to_the_provider() {
    let (status, headers) = get("/", "text/html").await;
    assert_eq!(status, 302);
    assert_eq!(headers["location"], "/auth/login");

    let (status, headers) = get("/auth/login?return_to=/", "text/html").await;
    assert_eq!(status, 303);
    let location = headers["location"].to_str().unwrap();
    assert!(location.starts_with("https://idp.example/authorize?response_type=code&"));
    assert!(location.contains("redirect_uri=http%3A%2F%2Flocalhost%3A3000%2Fauth%2Fcallback"));
    let cookie = headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-login-"));
}

#[tokio::test]
async fn a_script_is_refused() {
    let (status, headers) = get("/", "application/json").await;
    assert_eq!(status, 401);
    assert!(!headers.contains_key("location"));
}
