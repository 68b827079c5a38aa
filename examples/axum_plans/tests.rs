use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_quota::{Dimension, Limit, Limits, MemoryStore, Plans, Window};

use super::app;

fn small() -> Router {
    let calls = |amount| Limits::new([Limit::at_most(Dimension::Calls, Window::Month, amount)]);
    let plans = Plans::new(calls(1).unwrap()).named("pro", calls(3).unwrap());
    app(Arc::new(MemoryStore::new(plans)))
}

async fn ask(app: &Router, method: Method, path: &str, user: Option<&str>) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(user) = user {
        request = request.header("x-user", user);
    }
    let request = request.body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

async fn quota(app: &Router, user: &str) -> serde_json::Value {
    let shown = ask(app, Method::GET, "/quota", Some(user)).await;
    let shown = shown.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&shown).unwrap()
}

#[tokio::test]
async fn who_pays_gets_more_at_once_and_nobody_else() {
    let app = small();
    let hello = |user| ask(&app, Method::GET, "/hello", Some(user));
    assert_eq!(hello("alice").await.status(), StatusCode::OK);
    let refused = hello("alice").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    let why = quota(&app, "alice").await[0]["why_not"].to_string();
    assert!(why.contains("monthly call limit exceeded"), "{why}");

    let upgraded = ask(&app, Method::POST, "/upgrade", Some("alice")).await;
    assert_eq!(upgraded.status(), StatusCode::OK);
    assert_eq!(quota(&app, "alice").await[0]["left"], 2, "one was used");
    assert_eq!(hello("alice").await.status(), StatusCode::OK);
    assert_eq!(hello("bob").await.status(), StatusCode::OK);
    assert_eq!(hello("bob").await.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn nobody_is_refused_and_costs_nothing() {
    let app = small();
    let nobody = ask(&app, Method::GET, "/hello", None).await;
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
}
