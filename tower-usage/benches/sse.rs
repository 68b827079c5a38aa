//! What metering adds to a streamed answer of 100 chunks of 175 bytes, against the same frames passed through.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may fail")]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use divan::{AllocProfiler, Bencher, black_box};
use http::{Extensions, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use tower::{Layer, Service, service_fn};
use tower_usage::{
    Full, PriceEntry, PriceList, Rate, Sink, UsageLayer, UsageRecord,
    llm::{Attribution, CallBody, ModelCall, ModelCallLayer, ModelMeter},
};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

const CHUNK: usize = 175;

fn main() {
    divan::main();
}

#[divan::bench]
fn passed_through(bencher: Bencher<'_, '_>) {
    let frames = frames(false);
    bencher.bench_local(|| read(Frames::new(&frames)));
}

#[divan::bench(args = [false, true])]
fn metered(bencher: Bencher<'_, '_>, hiding_usage: bool) {
    let frames = frames(true);
    let call = call(hiding_usage);
    let provider = service_fn(move |_: Request<()>| answer(&frames));
    let mut service = UsageLayer::new(meter()).layer(provider);
    bencher.bench_local(|| {
        let mut request = Request::new(());
        request.extensions_mut().insert(call.clone());
        let response = now(service.call(request)).unwrap();
        read(response.into_body())
    });
}

fn meter() -> ModelMeter<impl Fn(&Extensions) -> Option<Attribution>> {
    let subject: Arc<str> = "alice".into();
    let rate = Rate::new("1.00".parse().unwrap(), "2.00".parse().unwrap());
    let prices = PriceList::new([PriceEntry::new("gpt-4o", rate)]).unwrap();
    ModelMeter::new(Arc::new(Forget), Arc::new(prices), move |_: &Extensions| {
        Some(Attribution::new(Arc::clone(&subject)))
    })
}

/// A call as the layer outside makes it.
fn call(usage_injected: bool) -> ModelCall {
    let options = if usage_injected {
        ""
    } else {
        r#","stream_options":{"include_usage":true}"#
    };
    let body = format!(r#"{{"model":"gpt-4o","stream":true{options}}}"#);
    let seen = Arc::new(std::sync::Mutex::new(None));
    let sees = Arc::clone(&seen);
    let mut service = ModelCallLayer::new().layer(service_fn(move |req: Request<CallBody>| {
        *sees.lock().unwrap() = req.extensions().get::<ModelCall>().cloned();
        ready(Ok::<_, Infallible>(Response::new(CallBody::default())))
    }));
    let request = Request::post("/v1/chat/completions").body(CallBody::from(Bytes::from(body)));
    now(service.call(request.unwrap())).unwrap();
    let call = seen.lock().unwrap().take().unwrap();
    assert_eq!(call.usage_injected, usage_injected);
    call
}

fn frames(usage: bool) -> Arc<[Bytes]> {
    let head = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":""#;
    let tail = "\"}}]}\n\n";
    let text = "x".repeat(CHUNK - head.len() - tail.len());
    let delta = Bytes::from(format!("{head}{text}{tail}"));
    let mut frames = vec![delta; 100];
    if usage {
        frames.push(Bytes::from_static(
            b"data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":100}}\n\n",
        ));
    }
    frames.push(Bytes::from_static(b"data: [DONE]\n\n"));
    frames.into()
}

fn answer(frames: &Arc<[Bytes]>) -> Ready<Result<Response<Frames>, Infallible>> {
    let mut response = Response::new(Frames::new(frames));
    response.headers_mut().insert(
        "content-type",
        HeaderValue::from_static("text/event-stream"),
    );
    ready(Ok(response))
}

fn read(body: impl Body<Data = Bytes>) -> usize {
    let mut body = pin!(body);
    let mut context = Context::from_waker(Waker::noop());
    let mut bytes = 0;
    while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut context) {
        bytes += black_box(frame).data_ref().map_or(0, Bytes::len);
    }
    bytes
}

/// The output of a future that is ready.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

struct Frames {
    frames: Arc<[Bytes]>,
    next: usize,
}

impl Frames {
    fn new(frames: &Arc<[Bytes]>) -> Self {
        Self {
            frames: Arc::clone(frames),
            next: 0,
        }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.get(self.next).cloned();
        self.next += 1;
        Poll::Ready(frame.map(|data| Ok(Frame::data(data))))
    }
}

/// A sink with room for all, that keeps nothing.
struct Forget;

impl Sink for Forget {
    fn admit(&self) -> Result<(), Full> {
        Ok(())
    }

    fn record(&self, record: UsageRecord) {
        black_box(record);
    }

    fn forgo(&self, _: Option<tower_usage::RecordId>) {}
}
