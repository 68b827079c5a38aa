//! The layer over HTTP and over a message type of its own.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_quota::{
    Amounts, Carry, Charge, Clock, Deny, DenyHttp, Dimension, Granted, Limit, Limits, MemoryStore,
    OnStoreFailure, Quota, QuotaLayer, QuotaStore, Refusal, Released, Renewed, Reservation,
    ReserveError, ResponseBody, ResponseFuture, Settled, Standing, StoreError, StoreFuture,
    Subject, Terms, Ticket, Window,
};

const ONE_CALL: Amounts = Amounts::new().calls(1);

/// 2026-03-15T12:00:00.500Z.
#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_773_576_000_500)
    }
}

fn calls_per_day(calls: u64) -> Arc<MemoryStore> {
    let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, calls)]).unwrap();
    Arc::new(MemoryStore::new(plan).clock(Arc::new(Noon)))
}

async fn stands(store: &dyn QuotaStore) -> (u64, u64) {
    let standing = store.standings(&"alice".into()).await.unwrap()[0];
    (standing.used(), standing.reserved())
}

/// `GET /free` is not charged; every other request is one call of Alice's.
fn policy<B>(request: &Request<B>) -> Option<Charge> {
    (request.uri() != "/free").then(|| Charge::new("alice").exactly(Dimension::Calls, 1))
}

fn request(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

async fn settle<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Some(reservation) = request.extensions().get::<Reservation>() {
        reservation.settle(reservation.held()).await.unwrap();
    }
    Ok(Response::new(Full::from("done")))
}

async fn json<B>(response: Response<B>) -> serde_json::Value
where
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

// === HTTP ===

#[tokio::test]
async fn an_admitted_request_gets_the_inner_answer_and_is_charged() {
    let store = calls_per_day(1);
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, store.clone()))
        .service_fn(settle);

    let response = service.oneshot(request("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.body().size_hint().exact(), Some(4));
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "done");
    assert_eq!(stands(&*store).await, (1, 0));
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_answered_429_and_not_passed_on() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = reached.clone();
    let store = calls_per_day(1);
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, store).deny_with(DenyHttp::new().clock(Arc::new(Noon))))
        .service_fn(move |request| {
            counter.fetch_add(1, Ordering::Relaxed);
            settle(request)
        });
    service.clone().oneshot(request("/")).await.unwrap();

    let response = service.oneshot(request("/")).await.unwrap();

    assert_eq!(reached.load(Ordering::Relaxed), 1);
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    for (name, value) in [
        ("content-type", "application/problem+json"),
        ("cache-control", "no-store"),
        ("retry-after", "43200"),
        ("ratelimit", r#""daily_calls";r=0;t=43200"#),
        (
            "ratelimit-policy",
            r#""daily_calls";q=1;qu="requests";w=86400"#,
        ),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    assert_eq!(
        json(response).await,
        serde_json::json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Quota exceeded",
            "status": 429,
            "detail": "daily call limit exceeded (1 used and 0 reserved of 1 calls)",
            "code": "daily_calls_exceeded",
            "violated-policies": ["daily_calls"],
            "limit": 1,
            "used": 1,
            "reserved": 0,
            "unit": "calls",
            "reset": "2026-03-16T00:00:00Z",
        })
    );
}

#[tokio::test]
async fn a_refusal_by_cost_fits_into_a_structured_field() {
    let limit = Limit::at_most(Dimension::Cost, Window::Month, u64::MAX);
    let store = MemoryStore::new(Limits::new([limit]).unwrap()).clock(Arc::new(Noon));
    let all = |_: &Request<_>| Some(Charge::new("alice").exactly(Dimension::Cost, u64::MAX));
    store.add_used(&"alice".into(), Noon.now(), Amounts::new().nano_usd(1));
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(all, Arc::new(store)))
        .service_fn(settle);

    let response = service.oneshot(request("/")).await.unwrap();

    assert_eq!(
        response.headers()["ratelimit-policy"],
        r#""monthly_cost";q=999999999999999;qu="nano_usd";w=2678400"#
    );
    let remaining = r#""monthly_cost";r=999999999999999;t="#;
    let field = response.headers()["ratelimit"].to_str().unwrap();
    assert!(field.starts_with(remaining), "{field}");
    let problem = json(response).await;
    assert_eq!(problem["code"], "monthly_cost_exceeded");
    assert_eq!(problem["limit"], u64::MAX);
}

#[tokio::test]
async fn the_time_to_wait_is_at_least_a_second() {
    #[derive(Debug)]
    struct Late;
    impl Clock for Late {
        fn now(&self) -> SystemTime {
            Noon.now() + Duration::from_secs(86_400)
        }
    }
    let deny = DenyHttp::new().clock(Arc::new(Late));
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, calls_per_day(0)).deny_with(deny))
        .service_fn(settle);

    let response = service.oneshot(request("/")).await.unwrap();

    assert_eq!(response.headers()["retry-after"], "1");
}

#[tokio::test]
async fn a_request_without_a_charge_passes_without_a_reservation() {
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, calls_per_day(0)))
        .service_fn(async |request: Request<Empty<Bytes>>| {
            assert!(request.extensions().get::<Reservation>().is_none());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });

    let response = service.oneshot(request("/free")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_inner_error_stays_as_it_is_and_gives_back() {
    let store = calls_per_day(1);
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, store.clone()))
        .service_fn(async |request: Request<Empty<Bytes>>| {
            assert!(request.extensions().get::<Reservation>().is_some());
            Err::<Response<Full<Bytes>>, _>("broken")
        });

    assert_eq!(service.oneshot(request("/")).await.unwrap_err(), "broken");
    assert_eq!(stands(&*store).await, (0, 0));
}

#[tokio::test]
async fn a_dropped_future_gives_back() {
    let store = calls_per_day(1);
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, store.clone()))
        .service_fn(async |request: Request<Empty<Bytes>>| {
            let _request = request;
            pending::<Result<Response<Full<Bytes>>, Infallible>>().await
        });
    let mut call = Box::pin(service.oneshot(request("/")));
    let mut cx = Context::from_waker(Waker::noop());

    assert!(call.as_mut().poll(&mut cx).is_pending());
    assert_eq!(stands(&*store).await, (0, 1));
    drop(call);
    assert_eq!(stands(&*store).await, (0, 0));
}

#[tokio::test]
async fn of_two_layers_the_inner_ones_reservation_replaces_the_outer_ones() {
    let (outside, inside) = (calls_per_day(1), calls_per_day(1));
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, outside.clone()))
        .layer(QuotaLayer::new(policy, inside.clone()))
        .service_fn(settle);

    service.oneshot(request("/")).await.unwrap();

    assert_eq!(stands(&*outside).await, (0, 0));
    assert_eq!(stands(&*inside).await, (1, 0));
}

#[tokio::test]
async fn a_future_that_is_never_polled_gives_back() {
    let store = calls_per_day(1);
    let mut service = QuotaLayer::new(policy, store.clone()).layer(service_fn(settle));

    let call = service.ready().await.unwrap().call(request("/"));

    assert_eq!(stands(&*store).await, (0, 1));
    drop(call);
    assert_eq!(stands(&*store).await, (0, 0));
}

// === the reservation ===

#[tokio::test]
async fn a_reservation_that_is_handed_over_outlives_its_handle() {
    let store = calls_per_day(1);
    let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
    let granted = store.reserve(&charge).await.unwrap();
    let reservation = Reservation::new(store.clone(), granted);

    let ticket = reservation.hand_over().clone();
    drop(reservation);
    assert_eq!(stands(&*store).await, (0, 1));
    store.settle(&ticket, ONE_CALL).await.unwrap();
    assert_eq!(stands(&*store).await, (1, 0));
}

#[tokio::test]
async fn only_the_last_clone_gives_back() {
    let store = calls_per_day(1);
    let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
    let granted = store.reserve(&charge).await.unwrap();
    let reservation = Reservation::new(store.clone(), granted);

    let clone = reservation.clone();
    drop(reservation);
    assert_eq!(stands(&*store).await, (0, 1));
    drop(clone);
    assert_eq!(stands(&*store).await, (0, 0));
}

#[tokio::test]
async fn a_released_reservation_is_free_before_its_handle_is_dropped() {
    let store = calls_per_day(1);
    let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
    let granted = store.reserve(&charge).await.unwrap();
    let reservation = Reservation::new(store.clone(), granted);

    assert_eq!(reservation.renew().await.unwrap(), Renewed::Applied);
    assert_eq!(reservation.release().await.unwrap(), Released::Applied);
    assert_eq!(stands(&*store).await, (0, 0));
    assert_eq!(reservation.renew().await.unwrap(), Renewed::NotHeld);
}

// === a store over a network ===

/// Answers later, or that it cannot.
struct Distant {
    near: Arc<MemoryStore>,
    reachable: bool,
}

impl Distant {
    fn answer<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        answer: StoreFuture<Result<T, E>>,
    ) -> StoreFuture<Result<T, E>> {
        let reachable = self.reachable;
        StoreFuture::boxed(async move {
            tokio::task::yield_now().await;
            if reachable {
                answer.await
            } else {
                Err(StoreError::new("connection refused").into())
            }
        })
    }
}

impl QuotaStore for Distant {
    fn reserve(&self, charge: &Charge) -> StoreFuture<Result<Granted, ReserveError>> {
        self.answer(self.near.reserve(charge))
    }

    fn settle(&self, ticket: &Ticket, used: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
        self.answer(self.near.settle(ticket, used))
    }

    fn release(&self, ticket: &Ticket) -> StoreFuture<Result<Released, StoreError>> {
        self.answer(self.near.release(ticket))
    }

    fn abandon(&self, ticket: &Ticket) {
        self.near.abandon(ticket);
    }

    fn renew(&self, ticket: &Ticket) -> StoreFuture<Result<Renewed, StoreError>> {
        self.answer(self.near.renew(ticket))
    }

    fn standings(&self, subject: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>> {
        self.answer(self.near.standings(subject))
    }

    fn terms(&self, subject: &Subject) -> StoreFuture<Result<Terms, StoreError>> {
        self.answer(self.near.terms(subject))
    }

    fn set_terms(&self, subject: &Subject, terms: Terms) -> StoreFuture<Result<bool, StoreError>> {
        self.answer(self.near.set_terms(subject, terms))
    }
}

#[tokio::test]
async fn an_answer_that_comes_later_admits_and_refuses_too() {
    let near = calls_per_day(1);
    let store = Arc::new(Distant {
        near: near.clone(),
        reachable: true,
    });
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, store))
        .service_fn(settle);

    let first = service.clone().oneshot(request("/")).await.unwrap();
    let second = service.oneshot(request("/")).await.unwrap();

    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(stands(&*near).await, (1, 0));
}

#[tokio::test]
async fn a_store_that_cannot_answer_refuses_with_503() {
    let store = Arc::new(Distant {
        near: calls_per_day(1),
        reachable: false,
    });
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, store))
        .service_fn(
            async |_: Request<Empty<Bytes>>| -> Result<Response<Full<Bytes>>, Infallible> {
                unreachable!("refused")
            },
        );

    let response = service.oneshot(request("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(
        store_error(&response),
        Some("connection refused".to_owned())
    );
    let problem = json(response).await;
    assert_eq!(problem["code"], "quota_store_unavailable");
    assert_eq!(problem["status"], 503);
}

#[tokio::test]
async fn a_layer_that_is_open_passes_without_a_reservation_when_the_store_cannot_answer() {
    let store = Arc::new(Distant {
        near: calls_per_day(0),
        reachable: false,
    });
    let service = ServiceBuilder::new()
        .layer(QuotaLayer::new(policy, store).on_store_failure(OnStoreFailure::Open))
        .service_fn(async |request: Request<Empty<Bytes>>| {
            assert!(request.extensions().get::<Reservation>().is_none());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });

    let response = service.oneshot(request("/")).await.unwrap();

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        store_error(&response),
        Some("connection refused".to_owned())
    );
}

/// Cannot answer, and says so at once.
struct Down;

impl QuotaStore for Down {
    fn reserve(&self, _: &Charge) -> StoreFuture<Result<Granted, ReserveError>> {
        StoreFuture::ready(Err(StoreError::new("down").into()))
    }

    fn settle(&self, _: &Ticket, _: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
        StoreFuture::ready(Err(StoreError::new("down")))
    }

    fn release(&self, _: &Ticket) -> StoreFuture<Result<Released, StoreError>> {
        StoreFuture::ready(Err(StoreError::new("down")))
    }

    fn abandon(&self, _: &Ticket) {}

    fn renew(&self, _: &Ticket) -> StoreFuture<Result<Renewed, StoreError>> {
        StoreFuture::ready(Err(StoreError::new("down")))
    }

    fn standings(&self, _: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>> {
        StoreFuture::ready(Err(StoreError::new("down")))
    }

    fn terms(&self, _: &Subject) -> StoreFuture<Result<Terms, StoreError>> {
        StoreFuture::ready(Err(StoreError::new("down")))
    }

    fn set_terms(&self, _: &Subject, _: Terms) -> StoreFuture<Result<bool, StoreError>> {
        StoreFuture::ready(Err(StoreError::new("down")))
    }
}

/// Hands what it learns of the store to the one who asked.
#[derive(Clone)]
struct Outspoken;

impl Deny<Rpc, Reply> for Outspoken {
    type Response = (Option<Reply>, Option<String>);

    fn pass(&self, reply: Reply) -> Self::Response {
        (Some(reply), None)
    }

    fn deny(&self, _: Rpc, refusal: Refusal) -> Self::Response {
        match refusal {
            Refusal::StoreUnavailable(error) => (None, cause(&error)),
            _ => (None, None),
        }
    }

    fn pass_unmetered(&self, reply: Reply, error: StoreError) -> Self::Response {
        (Some(reply), cause(&error))
    }
}

#[tokio::test]
async fn a_denier_learns_why_the_store_could_not_answer() {
    let layer = |on_failure| {
        QuotaLayer::new(Protocols, Arc::new(Down))
            .deny_with(Outspoken)
            .on_store_failure(on_failure)
            .layer(service_fn(async |rpc: Rpc| {
                assert!(rpc.reservation.is_none());
                Ok::<_, Infallible>(Reply::Done { id: rpc.id })
            }))
    };
    let rpc = |id| Rpc {
        id,
        user: "alice".into(),
        reservation: None,
    };
    let down = Some("down".to_owned());

    let closed = layer(OnStoreFailure::Closed).oneshot(rpc(1)).await.unwrap();
    assert_eq!(closed, (None, down.clone()));
    let open = layer(OnStoreFailure::Open).oneshot(rpc(2)).await.unwrap();
    assert_eq!(open, (Some(Reply::Done { id: 2 }), down));
}

fn store_error<B>(response: &Response<B>) -> Option<String> {
    cause(response.extensions().get::<Arc<StoreError>>()?)
}

fn cause(error: &StoreError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

// === a message type of its own ===

struct Rpc {
    id: u64,
    user: Arc<str>,
    reservation: Option<Reservation>,
}

#[derive(Debug, PartialEq)]
enum Reply {
    Done { id: u64 },
    Refused { id: u64, code: &'static str },
}

impl Carry<Reservation> for Rpc {
    fn carry(&mut self, reservation: Reservation) {
        self.reservation = Some(reservation);
    }
}

#[derive(Clone)]
struct DenyBoth;

impl Deny<Rpc, Reply> for DenyBoth {
    type Response = Reply;

    fn pass(&self, reply: Reply) -> Reply {
        reply
    }

    fn deny(&self, rpc: Rpc, refusal: Refusal) -> Reply {
        let code = match refusal {
            Refusal::Denied(denied) => denied.code(),
            _ => "unavailable",
        };
        Reply::Refused { id: rpc.id, code }
    }
}

#[derive(Clone)]
struct Protocols;

impl<B> tower_quota::QuotaPolicy<Request<B>> for Protocols {
    fn charge(&self, request: &Request<B>) -> Option<Charge> {
        policy(request)
    }
}

impl tower_quota::QuotaPolicy<Rpc> for Protocols {
    fn charge(&self, rpc: &Rpc) -> Option<Charge> {
        Some(Charge::new(rpc.user.clone()).exactly(Dimension::Calls, 1))
    }
}

impl<B, R> Deny<Request<B>, Response<R>> for DenyBoth {
    type Response = Response<ResponseBody<R>>;

    fn pass(&self, response: Response<R>) -> Self::Response {
        Deny::<Request<B>, _>::pass(&DenyHttp::new(), response)
    }

    fn deny(&self, request: Request<B>, refusal: Refusal) -> Self::Response {
        DenyHttp::new().deny(request, refusal)
    }
}

#[tokio::test]
async fn one_layer_value_serves_http_and_another_protocol_from_one_counter() {
    let store = calls_per_day(2);
    let layer = QuotaLayer::new(Protocols, store.clone()).deny_with(DenyBoth);
    let web = layer.layer(service_fn(settle));
    let socket = layer.layer(service_fn(async |rpc: Rpc| {
        let reservation = rpc.reservation.unwrap();
        reservation.settle(ONE_CALL).await.unwrap();
        Ok::<_, Infallible>(Reply::Done { id: rpc.id })
    }));
    let rpc = |id| Rpc {
        id,
        user: "alice".into(),
        reservation: None,
    };

    let response = web.clone().oneshot(request("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let reply = socket.clone().oneshot(rpc(7)).await.unwrap();
    assert_eq!(reply, Reply::Done { id: 7 });
    let reply = socket.oneshot(rpc(8)).await.unwrap();
    let code = "daily_calls_exceeded";
    assert_eq!(reply, Reply::Refused { id: 8, code });
    let response = web.oneshot(request("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
}

// === readiness ===

/// Panics when it is called without having been polled ready, as its clones are not.
#[derive(Default)]
struct Strict {
    ready: bool,
    clones: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            ready: false,
            clones: self.clones.clone(),
        }
    }
}

impl Service<Request<Empty<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called before it was ready"
        );
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_called() {
    let near = calls_per_day(9);
    let later = Arc::new(Distant {
        near: calls_per_day(9),
        reachable: true,
    });
    for store in [near as Arc<dyn QuotaStore>, later] {
        let mut service = QuotaLayer::new(policy, store).layer(Strict::default());
        for uri in ["/", "/free", "/", "/"] {
            let response = service.ready().await.unwrap().call(request(uri)).await;
            assert_eq!(response.unwrap().status(), StatusCode::OK, "{uri}");
        }
    }
}

#[tokio::test]
async fn an_answer_in_memory_clones_no_service() {
    let inner = Strict::default();
    let clones = inner.clones.clone();
    let store = calls_per_day(1);
    let mut service = QuotaLayer::new(policy, store.clone()).layer(inner);

    let admitted = service.ready().await.unwrap().call(request("/")).await;
    assert_eq!(admitted.unwrap().status(), StatusCode::OK);
    store.add_used(&"alice".into(), Noon.now(), ONE_CALL);
    let refused = service.ready().await.unwrap().call(request("/")).await;
    assert_eq!(refused.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(clones.load(Ordering::Relaxed), 0);
}

// === the body ===

/// One frame of data, then trailers.
struct Trailed(u8);

impl Body for Trailed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.0 += 1;
        Poll::Ready(match self.0 {
            1 => Some(Ok(Frame::data(Bytes::from_static(b"data")))),
            2 => Some(Ok(Frame::trailers(http::HeaderMap::new()))),
            3 => Some(Err("torn")),
            _ => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0 > 3
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(4)
    }
}

#[tokio::test]
async fn an_inner_body_passes_as_it_is() {
    let deny = DenyHttp::new();
    let response = Deny::<Request<()>, _>::pass(&deny, Response::new(Trailed(0)));
    let mut body = response.into_body();

    assert_eq!(body.size_hint().exact(), Some(4));
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    assert!(!body.is_end_stream());
    assert_eq!(body.frame().await.unwrap().unwrap_err(), "torn");
    assert!(body.frame().await.is_none());
    assert!(body.is_end_stream());
}

#[tokio::test]
async fn a_refusal_is_one_frame_of_known_length() {
    let deny = DenyHttp::new();
    let response: Response<ResponseBody<Trailed>> = deny.deny(
        request("/"),
        Refusal::StoreUnavailable(StoreError::new("gone")),
    );
    let mut body = response.into_body();
    let length = body.size_hint().exact().unwrap();

    assert!(!body.is_end_stream());
    let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(data.len() as u64, length);
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert!(body.frame().await.is_none());
}

#[test]
fn a_default_body_is_the_inner_default() {
    assert!(ResponseBody::<Empty<Bytes>>::default().is_end_stream());
}

// === what the compiler has to agree to ===

#[test]
fn services_and_futures_go_anywhere() {
    type Inner = Strict;
    type Policy = fn(&Request<Empty<Bytes>>) -> Option<Charge>;
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn sent<T: Send + 'static>() {}

    shared::<QuotaLayer<Policy>>();
    shared::<Quota<Inner, Policy>>();
    shared::<Reservation>();
    shared::<Ticket>();
    shared::<Limits>();
    shared::<Arc<dyn QuotaStore>>();
    sent::<ResponseFuture<Inner, Request<Empty<Bytes>>, DenyHttp>>();
    sent::<ResponseBody<Full<Bytes>>>();
    sent::<StoreFuture<Result<Granted, ReserveError>>>();
    fn unpin<T: Unpin>() {}
    unpin::<StoreFuture<std::marker::PhantomPinned>>();
}
