//! What a decision of the store in memory costs, in time and in allocations.
//!
//! Once a subject is known, reserving and settling allocates nothing; the handle that the layer puts into a request
//! is one allocation.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::{
    convert::Infallible,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use divan::{AllocProfiler, Bencher};
use tower::{Layer, Service, service_fn};
use tower_quota::{
    Amounts, Carry, Charge, Demand, Deny, Dimension, Granted, Limit, Limits, MemoryStore,
    QuotaLayer, QuotaStore, Refusal, Reservation, Window,
};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A store with six limits, which are all there can be, that has known `alice` for a while.
fn store() -> Arc<MemoryStore> {
    let limits = Dimension::ALL.into_iter().flat_map(|dimension| {
        [Window::Day, Window::Month].map(|window| Limit::at_most(dimension, window, u64::MAX))
    });
    let store = Arc::new(MemoryStore::new(Limits::new(limits).unwrap()));
    let charge = charge("alice");
    for _ in 0..1_000 {
        settle(&store, &reserve(&store, &charge));
    }
    store
}

fn charge(subject: &str) -> Charge {
    Charge::new(subject)
        .exactly(Dimension::Calls, 1)
        .demand(
            Dimension::Tokens,
            Demand {
                min: 1,
                want: 4_096,
            },
        )
        .demand(
            Dimension::Cost,
            Demand {
                min: 1,
                want: 9_000,
            },
        )
}

fn reserve(store: &MemoryStore, charge: &Charge) -> Granted {
    now(store.reserve(charge)).unwrap()
}

fn settle(store: &MemoryStore, granted: &Granted) {
    let used = Amounts::new().calls(1).tokens(1_000).nano_usd(3_000);
    black_box(now(store.settle(granted.ticket(), used)).unwrap());
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the store in memory answers at once"),
    }
}

/// One user, one thread after the other or all at once.
#[divan::bench(threads = [1, 2])]
fn one_subject(bencher: Bencher<'_, '_>) {
    let (store, charge) = (store(), charge("alice"));
    bencher.bench(|| settle(&store, &reserve(&store, &charge)));
}

/// The same through the handle that the layer puts into a request.
#[divan::bench]
fn one_subject_with_a_handle(bencher: Bencher<'_, '_>) {
    let (store, charge) = (store(), charge("alice"));
    bencher.bench(|| {
        let granted = reserve(&store, &charge);
        let handle = Reservation::new(store.clone(), granted);
        now(handle.settle(handle.held())).unwrap()
    });
}

/// The same through the layer, around a service that only drops the request: it is never cloned, and what there is to
/// allocate is the handle.
#[divan::bench]
fn one_subject_through_the_layer(bencher: Bencher<'_, '_>) {
    let charge = charge("alice");
    let mut service = QuotaLayer::new(move |_: &Call| Some(charge.clone()), store())
        .deny_with(DenyCall)
        .layer(service_fn(async |call: Call| Ok::<_, Infallible>(call)));
    bencher.bench_local(|| {
        let admitted = now(service.call(Call(None))).unwrap();
        let handle = admitted.and_then(|call| call.0).unwrap();
        now(handle.settle(handle.held())).unwrap()
    });
}

struct Call(Option<Reservation>);

impl Carry<Reservation> for Call {
    fn carry(&mut self, reservation: Reservation) {
        self.0 = Some(reservation);
    }
}

#[derive(Clone)]
struct DenyCall;

impl Deny<Call, Call> for DenyCall {
    type Response = Option<Call>;

    fn pass(&self, call: Call) -> Option<Call> {
        Some(call)
    }

    fn deny(&self, _: Call, _: Refusal) -> Option<Call> {
        None
    }
}

/// Each time another of a hundred thousand users.
#[divan::bench]
fn many_subjects(bencher: Bencher<'_, '_>) {
    let store = store();
    let charges: Vec<_> = (0..100_000).map(|n| charge(&format!("user {n}"))).collect();
    for charge in &charges {
        settle(&store, &reserve(&store, charge));
    }
    let mut next = charges.iter().cycle();
    bencher
        .with_inputs(|| next.next().unwrap())
        .bench_local_values(|charge| settle(&store, &reserve(&store, charge)));
}

/// A refusal, with the reason.
#[divan::bench]
fn refused(bencher: Bencher<'_, '_>) {
    let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 0)]).unwrap();
    let (store, charge) = (MemoryStore::new(plan), charge("alice"));
    bencher.bench(|| now(store.reserve(&charge)).unwrap_err());
}
