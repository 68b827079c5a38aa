use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::{Service, ServiceExt};
use tower_quota::{Clock, Dimension, Limit, Limits, MemoryStore, ResponseBody, Window};

use super::{User, service};

/// The day does not end while a test runs.
#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(12 * 3600)
    }
}

async fn call<S>(service: &S, user: Option<&str>) -> Response<ResponseBody<String>>
where
    S: Service<Request<()>, Response = Response<ResponseBody<String>>> + Clone,
    S::Error: std::fmt::Debug,
{
    let mut request = Request::new(());
    if let Some(user) = user {
        request.extensions_mut().insert(User(user.into()));
    }
    service.clone().oneshot(request).await.unwrap()
}

fn one_call_a_day() -> Arc<MemoryStore> {
    let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 1)]).unwrap();
    Arc::new(MemoryStore::new(plan).clock(Arc::new(Noon)))
}

#[tokio::test]
async fn refuses_the_call_after_the_last_to_this_user_alone() {
    let service = service(one_call_a_day());

    assert_eq!(call(&service, Some("alice")).await.status(), StatusCode::OK);

    let refused = call(&service, Some("alice")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "daily_calls_exceeded");

    assert_eq!(call(&service, Some("bob")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn refuses_who_is_not_known() {
    let service = service(one_call_a_day());
    assert_eq!(
        call(&service, None).await.status(),
        StatusCode::UNAUTHORIZED
    );
}
