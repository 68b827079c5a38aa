//! The layer on a request type of its own, and what it does at each end of a call.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tower::{Layer, Service, ServiceExt, service_fn};
use tower_usage::{
    Full, Opened, Operation, Place, ResponseFuture, Sink, Usage, UsageLayer, UsageMeter,
    UsageRecord,
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
