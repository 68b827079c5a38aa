//! What metering adds to a streamed answer of 100 chunks of 175 bytes, against the same frames passed through and
//! copied. Prints it as a ratio too: the time of metering a chunk to that of copying it.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may fail")]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
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
const CHUNKS: u32 = 100;

/// Rounds of which the median counts, and streams in each: few, so that a busy machine interrupts few of the rounds.
const ROUNDS: usize = 1_001;
const STREAMS: u32 = 4;

/// A streamed answer: how it is asked for, what comes before its deltas, what they are put into, what comes after.
#[derive(Clone, Copy)]
struct Stream {
    name: &'static str,
    path: &'static str,
    request: &'static str,
    begin: &'static [&'static str],
    delta: (&'static str, &'static str),
    end: &'static [&'static str],
}

const CHAT: Stream = Stream {
    name: "chat completions",
    path: "/v1/chat/completions",
    request: r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
    begin: &[],
    delta: (
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"m","choices":[{"index":0,"delta":{"content":""#,
        r#""}}]}"#,
    ),
    end: &[
        r#"data: {"id":"chatcmpl-1","model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":100}}"#,
        "data: [DONE]",
    ],
};

const HIDING: Stream = Stream {
    name: "chat completions, usage hidden",
    request: r#"{"model":"m","stream":true}"#,
    ..CHAT
};

const RESPONSES: Stream = Stream {
    name: "responses",
    path: "/v1/responses",
    request: r#"{"model":"m","stream":true}"#,
    begin: &[
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"model\":\"m\",\"usage\":null}}",
    ],
    delta: (
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"",
        "\"}",
    ),
    end: &[
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"model\":\"m\",\"usage\":{\"input_tokens\":9,\"output_tokens\":100}}}",
    ],
};

const MESSAGES: Stream = Stream {
    name: "messages",
    path: "/v1/messages",
    request: r#"{"model":"m","max_tokens":200,"stream":true}"#,
    begin: &[
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}",
    ],
    delta: (
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"",
        "\"}}",
    ),
    end: &[
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":100}}",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}",
    ],
};

const ALL: [Stream; 4] = [CHAT, HIDING, RESPONSES, MESSAGES];

fn main() {
    divan::main();
    for stream in ALL {
        let frames = stream.frames();
        let mut metered = stream.metered(&frames);
        let (mut copies, mut meters) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            copies.push(time(|| copy(Frames::new(&frames))));
            meters.push(time(&mut metered));
        }
        let (copied, metered) = (median(copies), median(meters));
        println!(
            "{}: a chunk is metered in {} ns, copied in {} ns: {:.2} x",
            stream.name,
            metered.as_nanos(),
            copied.as_nanos(),
            metered.as_secs_f64() / copied.as_secs_f64(),
        );
    }
}

#[divan::bench]
fn passed_through(bencher: Bencher<'_, '_>) {
    let frames = CHAT.frames();
    bencher.bench_local(|| read(Frames::new(&frames)));
}

#[divan::bench]
fn copied(bencher: Bencher<'_, '_>) {
    let frames = CHAT.frames();
    bencher.bench_local(|| copy(Frames::new(&frames)));
}

#[divan::bench(args = ALL.map(|stream| stream.name))]
fn metered(bencher: Bencher<'_, '_>, name: &str) {
    let stream = ALL.into_iter().find(|stream| stream.name == name);
    let stream = stream.unwrap();
    let frames = stream.frames();
    bencher.bench_local(stream.metered(&frames));
}

/// The time for a chunk.
fn time(mut run: impl FnMut() -> usize) -> Duration {
    let began = Instant::now();
    for _ in 0..STREAMS {
        hint::black_box(run());
    }
    began.elapsed() / (STREAMS * CHUNKS)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Stream {
    fn frames(&self) -> Arc<[Bytes]> {
        let (head, tail) = self.delta;
        let text = "x".repeat(CHUNK - head.len() - tail.len() - 2);
        let delta = Bytes::from(format!("{head}{text}{tail}\n\n"));
        let event = |event: &&str| Bytes::from(format!("{event}\n\n"));
        let mut frames: Vec<_> = self.begin.iter().map(event).collect();
        frames.extend(vec![delta; CHUNKS as usize]);
        frames.extend(self.end.iter().map(event));
        frames.into()
    }

    /// Meters the answer of one call each time.
    fn metered(&self, frames: &Arc<[Bytes]>) -> impl FnMut() -> usize {
        let call = self.call();
        let frames = Arc::clone(frames);
        let provider = service_fn(move |_: Request<()>| answer(&frames));
        let mut service = UsageLayer::new(meter()).layer(provider);
        move || {
            let mut request = Request::new(());
            request.extensions_mut().insert(call.clone());
            let response = now(service.call(request)).unwrap();
            read(response.into_body())
        }
    }

    /// The call as the layer outside makes it.
    fn call(&self) -> ModelCall {
        let seen = Arc::new(Mutex::new(None));
        let sees = Arc::clone(&seen);
        let mut service = ModelCallLayer::new().layer(service_fn(move |req: Request<CallBody>| {
            *sees.lock().unwrap() = req.extensions().get::<ModelCall>().cloned();
            ready(Ok::<_, Infallible>(Response::new(CallBody::default())))
        }));
        let body = CallBody::from(Bytes::from_static(self.request.as_bytes()));
        let request = Request::post(self.path).body(body).unwrap();
        now(service.call(request)).unwrap();
        seen.lock().unwrap().take().unwrap()
    }
}

fn meter() -> ModelMeter<impl Fn(&Extensions) -> Option<Attribution>> {
    let subject: Arc<str> = "alice".into();
    let rate = Rate::new("1.00".parse().unwrap(), "2.00".parse().unwrap());
    let prices = PriceList::new([PriceEntry::new("m", rate)]).unwrap();
    ModelMeter::new(Arc::new(Forget), Arc::new(prices), move |_: &Extensions| {
        Some(Attribution::new(Arc::clone(&subject)))
    })
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
    let mut bytes = 0;
    each(body, |frame| bytes += black_box(frame).len());
    bytes
}

fn copy(body: impl Body<Data = Bytes>) -> usize {
    let mut bytes = 0;
    each(body, |frame| bytes += black_box(frame.to_vec()).len());
    bytes
}

fn each(body: impl Body<Data = Bytes>, mut take: impl FnMut(Bytes)) {
    let mut body = pin!(body);
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut context) {
        take(frame.into_data().unwrap_or_default());
    }
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
