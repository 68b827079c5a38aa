use std::{
    convert::Infallible,
    error::Error,
    future::{Future, Ready, ready},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::oneshot;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_service::Service;

use crate::{
    BearerHeader, Carry, Identity, Reason, Reject, RejectHttp, Rejection, Require, ResponseBody,
    ResponseFuture, Sso, SsoLayer, TokenError, TokenSource, Verify, VerifyError, VerifyFuture,
};

// === a verifier ===

/// The token is the subject; some say more.
fn identify(token: &str) -> Result<Arc<Identity>, VerifyError> {
    match token {
        "expired" => Err(VerifyError::Invalid(Reason::Expired)),
        "outage" => Err(VerifyError::Unavailable),
        subject => {
            let role = if subject == "root" { "admin" } else { "user" };
            let identity = Identity::builder("issuer", subject).roles([role]);
            Ok(Arc::new(identity.build()))
        }
    }
}

fn at_once() -> Arc<dyn Verify> {
    Arc::new(|token: &str| VerifyFuture::ready(identify(token)))
}

fn later() -> Arc<dyn Verify> {
    Arc::new(|token: &str| {
        let token = token.to_owned();
        VerifyFuture::boxed(async move {
            tokio::task::yield_now().await;
            identify(&token)
        })
    })
}

// === a service ===

/// Says who is asking, and panics when it is called without having been polled ready: a clone has not
/// been.
#[derive(Default)]
struct Strict {
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<B> Service<Request<B>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called unready");
        let identity = request.extensions().get::<Arc<Identity>>();
        let user_id = identity.map_or("nobody", |identity| &**identity.user_id());
        ready(Ok(Response::new(Full::new(user_id.to_owned().into()))))
    }
}

fn request(token: Option<&str>) -> Request<()> {
    let mut request = Request::new(());
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
    }
    request
}

/// Asks twice, so that the second call meets what the first left behind.
async fn ask(layer: &SsoLayer, token: Option<&str>) -> (StatusCode, Bytes) {
    let mut service = ServiceBuilder::new()
        .layer(layer.clone())
        .service(Strict::default());
    let mut answer = None;
    for _ in 0..2 {
        let service = ServiceExt::<Request<()>>::ready(&mut service)
            .await
            .unwrap();
        let response = service.call(request(token)).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let seen = (status, body);
        assert!(answer.is_none_or(|earlier| earlier == seen));
        answer = Some(seen);
    }
    answer.unwrap()
}

#[tokio::test]
async fn a_verified_identity_reaches_the_ready_inner_service() {
    for verifier in [at_once(), later()] {
        let layer = SsoLayer::new(verifier);
        let (status, body) = ask(&layer, Some("alice")).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"alice"[..]));
    }
}

#[tokio::test]
async fn refusals_are_answers_and_do_not_reach_the_inner_service() {
    for verifier in [at_once(), later()] {
        let layer = SsoLayer::new(verifier);
        for (token, status) in [
            (None, StatusCode::UNAUTHORIZED),
            (Some("expired"), StatusCode::UNAUTHORIZED),
            (Some("a b"), StatusCode::BAD_REQUEST),
            (Some("outage"), StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let inner = service_fn(|_: Request<()>| async {
                panic!("reached");
                #[expect(unreachable_code, reason = "gives the types")]
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            });
            let service = ServiceBuilder::new().layer(layer.clone()).service(inner);
            let response = service.oneshot(request(token)).await.unwrap();
            assert_eq!(response.status(), status, "{token:?}");
        }
    }
}

#[tokio::test]
async fn d1_12_a_token_over_the_bound_is_not_valid_whoever_verifies() {
    let layer = SsoLayer::new(at_once());
    let longest = "a".repeat(16 * 1024);
    let (status, body) = ask(&layer, Some(&longest)).await;
    assert_eq!((status, body), (StatusCode::OK, longest.clone().into()));
    for length in [16 * 1024 + 1, 64 * 1024, 1024 * 1024] {
        let too_long = ask(&layer, Some(&"a".repeat(length))).await;
        let invalid = ask(&layer, Some("expired")).await;
        assert_eq!(too_long.0, StatusCode::UNAUTHORIZED, "{length}");
        assert_eq!(too_long, invalid, "{length}");
    }
}

#[tokio::test]
async fn optional_lets_nobody_pass_but_not_a_bad_token() {
    let layer = SsoLayer::new(at_once()).optional();
    let nobody = (StatusCode::OK, Bytes::from_static(b"nobody"));
    assert_eq!(ask(&layer, None).await, nobody);
    assert_eq!(ask(&layer, Some("alice")).await.1, "alice");
    let (status, _) = ask(&layer, Some("expired")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_requirement_is_held_against_the_identity() {
    let admins = || Require::new().any_role(["admin"]);
    for verifier in [at_once(), later()] {
        let layer = SsoLayer::new(verifier).require(admins());
        assert_eq!(ask(&layer, Some("root")).await.0, StatusCode::OK);
        assert_eq!(ask(&layer, Some("bob")).await.0, StatusCode::FORBIDDEN);
        assert_eq!(ask(&layer, None).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(
            ask(&layer.optional(), None).await.0,
            StatusCode::UNAUTHORIZED,
            "nobody has no role"
        );
    }
}

#[tokio::test]
async fn an_identity_that_was_there_already_is_replaced() {
    let mut request = request(Some("alice"));
    request.carry(Arc::new(Identity::builder("issuer", "mallory").build()));
    let service = ServiceBuilder::new()
        .layer(SsoLayer::new(at_once()))
        .service(Strict::default());
    let response = service.oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "alice");
}

#[tokio::test]
async fn errors_of_the_inner_service_pass_unchanged() {
    #[derive(Debug, PartialEq)]
    struct Broken;

    for verifier in [at_once(), later()] {
        let inner = service_fn(|_: Request<()>| ready(Err::<Response<Full<Bytes>>, _>(Broken)));
        let service = ServiceBuilder::new()
            .layer(SsoLayer::new(verifier))
            .service(inner);
        let result = service.oneshot(request(Some("alice"))).await;
        assert_eq!(result.err(), Some(Broken));
    }
}

#[test]
fn readiness_is_the_inner_services() {
    #[derive(Clone)]
    struct Busy;

    impl Service<Request<()>> for Busy {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            unreachable!("never ready")
        }
    }

    let mut service = ServiceBuilder::new()
        .layer(SsoLayer::new(at_once()))
        .service(Busy);
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(Service::<Request<()>>::poll_ready(&mut service, cx).is_pending());
}

#[tokio::test]
async fn a_request_that_gives_up_drops_the_verification() {
    let (sender, receiver) = oneshot::channel::<()>();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let verifier = move |_: &str| {
        let receiver = receiver.lock().unwrap().take().unwrap();
        VerifyFuture::boxed(async move {
            let _ = receiver.await;
            identify("alice")
        })
    };
    let mut service = ServiceBuilder::new()
        .layer(SsoLayer::new(Arc::new(verifier)))
        .service(Strict::default());
    let ready = ServiceExt::<Request<()>>::ready(&mut service)
        .await
        .unwrap();
    {
        let mut future = pin!(ready.call(request(Some("alice"))));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(cx).is_pending());
        assert!(!sender.is_closed());
    }
    assert!(sender.is_closed());
}

// === another protocol ===

/// A request that is no HTTP and has no `Clone`.
struct Rpc {
    id: u64,
    token: Option<String>,
    identity: Option<Arc<Identity>>,
}

#[derive(Debug, PartialEq)]
enum RpcAnswer {
    Done { id: u64, user_id: Option<String> },
    Refused { id: u64, rejection: Rejection },
}

impl Carry<Arc<Identity>> for Rpc {
    fn carry(&mut self, identity: Arc<Identity>) {
        self.identity = Some(identity);
    }
}

/// Policies for both protocols, so that one layer serves both.
#[derive(Clone)]
struct Both;

impl<B> TokenSource<Request<B>> for Both {
    fn token<'a>(&self, request: &'a Request<B>) -> Result<Option<&'a str>, TokenError> {
        BearerHeader::new().token(request)
    }
}

impl TokenSource<Rpc> for Both {
    fn token<'a>(&self, request: &'a Rpc) -> Result<Option<&'a str>, TokenError> {
        Ok(request.token.as_deref())
    }
}

impl<B, R> Reject<Request<B>, Response<R>> for Both {
    type Response = Response<ResponseBody<R>>;

    fn pass(&self, response: Response<R>) -> Self::Response {
        Reject::<Request<B>, _>::pass(&RejectHttp::new(), response)
    }

    fn reject(&self, request: Request<B>, rejection: Rejection) -> Self::Response {
        RejectHttp::new().reject(request, rejection)
    }
}

impl Reject<Rpc, RpcAnswer> for Both {
    type Response = RpcAnswer;

    fn pass(&self, answer: RpcAnswer) -> RpcAnswer {
        answer
    }

    fn reject(&self, request: Rpc, rejection: Rejection) -> RpcAnswer {
        let id = request.id;
        RpcAnswer::Refused { id, rejection }
    }
}

#[tokio::test]
async fn one_layer_serves_http_and_another_protocol() {
    for verifier in [at_once(), later()] {
        let layer = SsoLayer::new(verifier).source(Both).reject_with(Both);
        let web = ServiceBuilder::new()
            .layer(layer.clone())
            .service(Strict::default());
        let rpc = ServiceBuilder::new().layer(layer).service_fn(|rpc: Rpc| {
            let user_id = rpc.identity.map(|identity| identity.user_id().to_string());
            ready(Ok::<_, Infallible>(RpcAnswer::Done {
                id: rpc.id,
                user_id,
            }))
        });
        let call = |id: u64, token: Option<&str>| {
            let (token, identity) = (token.map(str::to_owned), None);
            rpc.clone().oneshot(Rpc {
                id,
                token,
                identity,
            })
        };

        let response = web.oneshot(request(Some("alice"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            call(1, Some("alice")).await.unwrap(),
            RpcAnswer::Done {
                id: 1,
                user_id: Some("alice".to_owned())
            }
        );
        assert_eq!(
            call(2, None).await.unwrap(),
            RpcAnswer::Refused {
                id: 2,
                rejection: Rejection::MissingToken
            }
        );
        assert_eq!(
            call(3, Some("expired")).await.unwrap(),
            RpcAnswer::Refused {
                id: 3,
                rejection: Rejection::InvalidToken(Reason::Expired)
            }
        );
    }
}

// === laws of the types ===

#[test]
fn what_is_public_travels_between_threads() {
    fn is_service<T: Clone + Send + Sync + 'static>() {}
    fn is_future<T: Send + 'static>() {}
    fn is_value<T: Clone + Send + Sync + 'static>() {}
    fn is_error<T: Error + Send + Sync + 'static>() {}

    is_service::<SsoLayer>();
    is_service::<Sso<Strict>>();
    is_future::<ResponseFuture<Strict, Request<Full<Bytes>>>>();
    is_future::<VerifyFuture>();
    is_future::<ResponseBody<Full<Bytes>>>();
    is_value::<Identity>();
    is_value::<Require>();
    is_value::<RejectHttp>();
    is_value::<BearerHeader>();
    is_value::<Rejection>();
    is_error::<VerifyError>();
    is_error::<TokenError>();
    is_error::<crate::HttpError>();
    #[cfg(feature = "client")]
    is_value::<crate::client::HyperClient>();
    #[cfg(feature = "jwt")]
    {
        is_service::<crate::jwt::JwtVerifier>();
        is_value::<crate::jwt::JwtConfig>();
        is_value::<crate::jwt::VerifyingKey>();
        is_error::<crate::jwt::ConfigError>();
        is_value::<crate::Verdicts>();
    }
}
