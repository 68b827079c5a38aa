//! The layer on a request type of its own, and what it does at each end of a call.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use tower::{Layer, Service, ServiceExt, service_fn};
use tower_usage::{
    Begun, Full, Opened, Operation, Place, RecordId, ResponseFuture, Sink, Usage, UsageLayer,
    UsageMeter, UsageRecord,
};

mod support;
use support::Kept;

/// A request of some protocol that is not HTTP.
struct Rpc {
    id: u64,
    user: Option<&'static str>,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Done(u64),
    Refused(u64),
}

#[derive(Clone)]
struct RpcMeter {
    sink: Arc<dyn Sink>,
    failed: Arc<Mutex<u32>>,
}

impl RpcMeter {
    fn new(sink: Arc<dyn Sink>) -> Self {
        Self {
            sink,
            failed: Arc::default(),
        }
    }
}

struct Tap(Option<(Place, UsageRecord)>);

impl Drop for Tap {
    fn drop(&mut self) {
        if let Some((place, record)) = self.0.take() {
            place.record(record);
        }
    }
}

impl UsageMeter<Rpc, u64> for RpcMeter {
    type Tap = Tap;
    type Response = Answer;

    fn open(&self, req: &Rpc) -> Opened<Tap> {
        let Some(user) = req.user else {
            return Opened::Unmetered;
        };
        match Place::take(self.sink.clone()) {
            Ok(place) => Opened::Metered(Tap(Some((
                place,
                UsageRecord::new(user.into(), Operation::Run),
            )))),
            Err(full) => Opened::Full(full),
        }
    }

    fn observe(&self, _: Option<Tap>, res: u64) -> Answer {
        Answer::Done(res)
    }

    fn fail(&self, _: Tap) {
        *self.failed.lock().unwrap() += 1;
    }

    fn refuse(&self, req: Rpc, _: Full) -> Answer {
        Answer::Refused(req.id)
    }
}

fn echo() -> impl Service<Rpc, Response = u64, Error = Infallible, Future: Send> + Clone {
    service_fn(|req: Rpc| ready(Ok(req.id)))
}

#[tokio::test]
async fn meters_a_request_type_that_is_not_http() {
    let sink = Kept::new();
    let service = UsageLayer::new(RpcMeter::new(sink.clone())).layer(echo());
    assert_eq!(
        service
            .oneshot(Rpc {
                id: 7,
                user: Some("alice")
            })
            .await,
        Ok(Answer::Done(7))
    );
    assert_eq!(&*sink.only().subject, "alice");
}

#[tokio::test]
async fn lets_an_unmetered_call_through_without_a_record() {
    let sink = Kept::with_capacity(0);
    let service = UsageLayer::new(RpcMeter::new(sink.clone())).layer(echo());
    assert_eq!(
        service.oneshot(Rpc { id: 7, user: None }).await,
        Ok(Answer::Done(7))
    );
    assert!(sink.records().is_empty());
}

#[tokio::test]
async fn refuses_at_admission_when_the_sink_is_full() {
    let sink = Kept::with_capacity(1);
    let layer = UsageLayer::new(RpcMeter::new(sink.clone()));
    let refusing = layer.layer(service_fn(|_: Rpc| async {
        panic!("a refused call must not go inward") as Result<u64, Infallible>
    }));
    let held = Place::take(sink.clone() as Arc<dyn Sink>).unwrap();
    assert_eq!(
        refusing
            .oneshot(Rpc {
                id: 7,
                user: Some("alice")
            })
            .await,
        Ok(Answer::Refused(7))
    );
    drop(held);
    let served = layer
        .layer(echo())
        .oneshot(Rpc {
            id: 8,
            user: Some("alice"),
        })
        .await;
    assert_eq!(served, Ok(Answer::Done(8)));
}

#[tokio::test]
async fn tells_the_meter_of_an_inner_error() {
    let sink = Kept::new();
    let meter = RpcMeter::new(sink.clone());
    let service =
        UsageLayer::new(meter.clone()).layer(service_fn(|_: Rpc| ready(Err::<u64, _>("gone"))));
    assert_eq!(
        service
            .oneshot(Rpc {
                id: 7,
                user: Some("alice")
            })
            .await,
        Err("gone")
    );
    assert_eq!(*meter.failed.lock().unwrap(), 1);
    sink.only();
}

#[tokio::test]
async fn records_when_the_future_is_dropped_before_it_is_ready() {
    let sink = Kept::new();
    let waiting = service_fn(|_: Rpc| std::future::pending::<Result<u64, Infallible>>());
    let mut service = UsageLayer::new(RpcMeter::new(sink.clone())).layer(waiting);
    let call = service.ready().await.unwrap().call(Rpc {
        id: 7,
        user: Some("alice"),
    });
    assert!(sink.records().is_empty());
    drop(call);
    sink.only();
}

/// Panics when it is called without having been polled ready.
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl Service<Rpc> for Strict {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Rpc) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called unready");
        ready(Ok(req.id))
    }
}

#[tokio::test]
async fn calls_the_service_that_was_polled_ready() {
    let mut service = UsageLayer::new(RpcMeter::new(Kept::new())).layer(Strict { ready: false });
    for id in 0..3 {
        let answer = service
            .ready()
            .await
            .unwrap()
            .call(Rpc {
                id,
                user: Some("alice"),
            })
            .await;
        assert_eq!(answer, Ok(Answer::Done(id)));
    }
}

#[test]
fn services_and_futures_are_send_sync_clone_and_static() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn send<T: Send + 'static>() {}
    shared::<UsageLayer<RpcMeter>>();
    shared::<Usage<Strict, RpcMeter>>();
    shared::<UsageRecord>();
    send::<ResponseFuture<Strict, RpcMeter, Rpc>>();
}

/// A sink that keeps a call only when it is told to.
#[derive(Clone)]
struct Slow {
    kept: Arc<Kept>,
    told: Arc<tokio::sync::Semaphore>,
    answer: Result<(), Full>,
}

impl Sink for Slow {
    fn admit(&self) -> Result<(), Full> {
        self.kept.admit()
    }

    fn begin(&self, _: &UsageRecord) -> Begun {
        let slow = self.clone();
        Begun::boxed(async move {
            slow.told.acquire().await.unwrap().forget();
            slow.answer
        })
    }

    fn record(&self, record: UsageRecord) {
        self.kept.record(record);
    }

    fn forgo(&self, begun: Option<RecordId>) {
        assert!(begun.is_some(), "what was kept is named");
        self.kept.forgo(begun);
    }
}

/// Meters like [`RpcMeter`], and waits until a call is kept.
#[derive(Clone)]
struct Keeping(RpcMeter);

impl UsageMeter<Rpc, u64> for Keeping {
    type Tap = Tap;
    type Response = Answer;

    fn open(&self, req: &Rpc) -> Opened<Tap> {
        self.0.open(req)
    }

    fn begin(&self, tap: &mut Tap) -> Begun {
        let (place, record) = tap.0.as_mut().unwrap();
        place.begin(record)
    }

    fn withdraw(&self, mut tap: Tap) {
        drop(tap.0.take());
    }

    fn observe(&self, tap: Option<Tap>, res: u64) -> Answer {
        self.0.observe(tap, res)
    }

    fn refuse(&self, req: Rpc, full: Full) -> Answer {
        self.0.refuse(req, full)
    }
}

fn is_pending(future: Pin<&mut impl Future>) -> bool {
    future
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

fn keeping(answer: Result<(), Full>) -> (Slow, Usage<Strict, Keeping>) {
    let slow = Slow {
        kept: Kept::new(),
        told: Arc::new(tokio::sync::Semaphore::new(0)),
        answer,
    };
    let meter = Keeping(RpcMeter::new(Arc::new(slow.clone())));
    (slow, Usage::new(Strict { ready: false }, meter))
}

#[tokio::test]
async fn a_call_goes_inward_when_it_is_kept_and_with_the_service_that_was_ready() {
    let (slow, mut service) = keeping(Ok(()));
    let rpc = |id| Rpc {
        id,
        user: Some("alice"),
    };
    let mut call = Box::pin(service.ready().await.unwrap().call(rpc(1)));
    assert!(is_pending(call.as_mut()));
    let other = service.ready().await.unwrap().call(rpc(2));
    slow.told.add_permits(2);
    assert_eq!(call.await, Ok(Answer::Done(1)));
    assert_eq!(other.await, Ok(Answer::Done(2)));
    assert_eq!(slow.kept.records().len(), 2);
}

#[tokio::test]
async fn a_call_that_did_not_go_inward_is_withdrawn() {
    let (slow, mut service) = keeping(Err(Full::new()));
    let rpc = |id| Rpc {
        id,
        user: Some("alice"),
    };
    let mut left = Box::pin(service.ready().await.unwrap().call(rpc(1)));
    assert!(is_pending(left.as_mut()));
    drop(left);
    slow.told.add_permits(1);
    let refused = service.ready().await.unwrap().call(rpc(2)).await;
    assert_eq!(refused, Ok(Answer::Refused(2)));
    assert!(slow.kept.records().is_empty());
}
