use http::StatusCode;
use http_body_util::BodyExt;
use tower_sso::{HttpError, HttpFuture};

use super::*;

fn nobody(_request: Request<Bytes>, _limit: usize) -> HttpFuture {
    HttpFuture::ready(Err(HttpError::new("no network in a test")))
}

async fn get(target: &str) -> (StatusCode, String, String) {
    let github = Provider::github().client("id", "secret");
    let keys = SealingKeys::new([[7; 32]]).unwrap();
    let service = service(Arc::new(nobody), github, keys).unwrap();
    let request = Request::get(target).header("accept", "text/html");
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    let location = response.headers().get("location");
    let location = location.map(|value| value.to_str().unwrap().to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    (status, location.unwrap_or_default(), body)
}

#[tokio::test]
async fn a_browser_is_sent_to_sign_in_and_on_to_github() {
    let (status, location, _) = get("/a?b").await;
    assert_eq!(status, StatusCode::FOUND);
    assert_eq!(location, "/auth/login?return_to=%2Fa%3Fb");

    let (status, location, _) = get(&location).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let wanted = "https://github.com/login/oauth/authorize?response_type=code&client_id=id&";
    assert!(location.starts_with(wanted), "{location}");
    assert!(location.contains("scope=read%3Auser%20user%3Aemail"));
}

#[tokio::test]
async fn a_made_up_callback_is_refused() {
    let (status, _, body) = get("/auth/callback?code=a&state=b").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("<!doctype html>"));
}
