//! What a request frame costs: through the whole stack in memory, as a ratio to its parse alone, and in allocations.
//!
//! `cargo bench -p gateway-bin --bench frame`. The allocations are asserted; a frame that takes more than is written
//! here is a change that wants a reason.

#![expect(clippy::expect_used, reason = "a bench that cannot go on has failed")]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gateway::instance::Gate;
use gateway::prices::price_list;
use gateway::protocol::parse_request;
use gateway::rpc::{Forward, Outgoing, Reply, RpcRequest, RpcResponse, RunCharge};
use gateway::stack::Parts;
use tokio::sync::{Semaphore, mpsc};
use tower_quota::{Dimension, Limit, Limits, MemoryStore, OnStoreFailure, Window};
use tower_service::Service;
use tower_sso::{Identity, Reason, VerifyError, VerifyFuture};
use tower_usage::{Full, Sink, UsageRecord};
use tower_workspace::{ResolveFuture, Workspace};

/// Most allocations of a frame that only asks.
const ASK_ALLOCATIONS: u64 = 9;

/// Most allocations of a frame that starts a run: reserved, handed over, recorded.
const RUN_ALLOCATIONS: u64 = 17;

const ROUNDS: u32 = 7;
const FRAMES: u32 = if cfg!(debug_assertions) {
    1_000
} else {
    100_000
};

struct Nowhere;

impl Sink for Nowhere {
    fn admit(&self) -> Result<(), Full> {
        Ok(())
    }

    fn record(&self, record: UsageRecord) {
        black_box(record);
    }

    fn forgo(&self, _: Option<tower_usage::RecordId>) {}
}

fn parts() -> Parts {
    let limits = [
        Limit::at_most(Dimension::Tokens, Window::Day, u64::MAX),
        Limit::at_most(Dimension::Cost, Window::Month, u64::MAX),
        Limit::at_most(Dimension::Calls, Window::Day, u64::MAX),
    ];
    let workspace = Workspace::new("alice", "/srv/users").expect("a user id");
    let workspace = Arc::new(workspace.with_slot("user-alice"));
    let nobody = |_: &str| VerifyFuture::ready(Err(VerifyError::Invalid(Reason::Unknown)));
    Parts {
        tokens: Arc::new(nobody),
        virtual_keys: Arc::new(nobody),
        is_disabled: Arc::new(|_| false),
        workspaces: Arc::new(move |_: &Arc<str>| ResolveFuture::ready(Ok(Arc::clone(&workspace)))),
        quota: Arc::new(MemoryStore::new(Limits::new(limits).expect("three limits"))),
        on_store_failure: OnStoreFailure::Closed,
        ledger: Arc::new(Nowhere),
        prices: price_list(&[], &Default::default())
            .expect("no prices")
            .into(),
        run_prepared: Arc::new(|_| {}),
    }
}

/// 300 bytes of frame, the rest of it message text.
fn frame(method: &str, rest: &str) -> String {
    let mut frame = format!(
        r#"{{"type":"req","id":"01a20765-7878-7589","method":"{method}","params":{{"sessionKey":"agent:user-alice:main"{rest}}}}}"#
    );
    let missing = 300_usize.saturating_sub(frame.len());
    frame = frame.replace("TEXT", &"x".repeat(missing.saturating_add(4)));
    frame
}

struct Bench<S> {
    stack: S,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    identity: Arc<Identity>,
    turns: Arc<Semaphore>,
    starts_run: bool,
}

impl<S: Service<RpcRequest, Response = RpcResponse>> Bench<S> {
    /// One frame: parsed, through all layers, written for the instance, answered.
    fn run(&mut self, text: &str) {
        let mut cx = Context::from_waker(Waker::noop());
        let Ok(frame) = parse_request(text) else {
            unreachable!("the frame is good")
        };
        let turn = Arc::clone(&self.turns)
            .try_acquire_owned()
            .expect("one frame at a time");
        let request = RpcRequest::new(frame, Arc::clone(&self.identity), turn.into());
        let _ = black_box(self.stack.poll_ready(&mut cx));
        let mut future = pin!(self.stack.call(request));
        assert!(
            future.as_mut().poll(&mut cx).is_pending(),
            "the instance has not answered"
        );
        let sent = self.outgoing.try_recv().expect("admitted");
        black_box(sent.text);
        let response = RpcResponse {
            text: r#"{"type":"res","id":"1","ok":true,"payload":{}}"#.into(),
            started_run: self.starts_run.then(|| "01a20765".into()),
        };
        assert!(
            sent.reply.send(Reply::Response(response)).is_ok(),
            "the future waits"
        );
        assert!(matches!(future.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
    }
}

/// The best of some rounds, for one frame.
fn time(mut work: impl FnMut()) -> Duration {
    let round = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..FRAMES {
            work();
        }
        start.elapsed() / FRAMES
    };
    (0..ROUNDS)
        .map(|_| round(&mut work))
        .min()
        .unwrap_or_default()
}

fn measure(name: &str, text: &str, starts_run: bool, most: u64) {
    let (queue, outgoing) = mpsc::unbounded_channel();
    let mut bench = Bench {
        stack: parts().frames(RunCharge::new(false), Forward::new(queue, Gate::default())),
        outgoing,
        identity: Arc::new(Identity::builder("https://issuer.example", "alice").build()),
        turns: Arc::new(Semaphore::new(1)),
        starts_run,
    };
    // The first frames make what is kept: the subject's counters, the channel's blocks.
    for _ in 0..200 {
        bench.run(text);
    }
    let whole = time(|| bench.run(black_box(text)));
    let parse = time(|| drop(black_box(parse_request(black_box(text)))));
    // The channel allocates a block for some tens of frames: a mean hides nothing over a hundred of them.
    let counted = allocation_counter::measure(|| (0..100).for_each(|_| bench.run(text)));
    let allocations = counted.count_total.div_ceil(100);
    let ratio = whole.as_secs_f64() / parse.as_secs_f64();
    println!(
        "{name}: {} bytes, {whole:?} whole, {parse:?} parse alone, ratio {ratio:.2}, {allocations} allocations",
        text.len()
    );
    assert!(
        allocations <= most,
        "{name} takes {allocations} allocations, {most} were enough"
    );
}

fn main() {
    measure(
        "a frame that asks",
        &frame("chat.history", r#","cursor":"TEXT""#),
        false,
        ASK_ALLOCATIONS,
    );
    let rest = r#","message":"TEXT","idempotencyKey":"01a20765-7878""#;
    measure(
        "a frame that starts a run",
        &frame("chat.send", rest),
        true,
        RUN_ALLOCATIONS,
    );
}
