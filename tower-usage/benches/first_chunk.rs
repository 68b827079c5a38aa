//! What metering adds to the time until the first chunk of a streamed answer: in memory, and with a ledger in a file, where
//! a call goes inward once it is kept on disk. Prints the medians, and the last one as a ratio to what the disk itself takes
//! to keep a page.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark may fail"
)]

use std::{
    convert::Infallible,
    fs::OpenOptions,
    future::ready,
    io::{Seek, SeekFrom, Write},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Extensions, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_usage::{
    PriceEntry, PriceList, Rate, RecordId, Sink, UsageLayer, UsageRecord,
    llm::{Attribution, CallBody, ModelCallLayer, ModelMeter},
    sqlite::{LedgerOptions, SqliteLedger},
};

const ASKED: &str =
    r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let directory = tempfile::tempdir_in(".").unwrap();
    let ledger = SqliteLedger::open(directory.path().join("usage.db"), LedgerOptions::new());
    let ledger = ledger.unwrap();
    let provider = || {
        service_fn(|_: Request<CallBody>| {
            let mut response = Response::new(Chunks(vec![
                "data: [DONE]\n\n",
                "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n",
                "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n",
            ]));
            let kind = HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert("content-type", kind);
            ready(Ok::<_, Infallible>(response))
        })
    };
    let mut plain = ModelCallLayer::new().layer(provider());
    let in_memory = ServiceBuilder::new().layer(ModelCallLayer::new());
    let mut in_memory = in_memory
        .layer(UsageLayer::new(meter(Arc::new(Forget))))
        .service(provider());
    let on_disk = ServiceBuilder::new().layer(ModelCallLayer::new());
    let mut on_disk = on_disk
        .layer(UsageLayer::new(meter(ledger.clone())))
        .service(provider());

    let mut times = [const { Vec::new() }; 4];
    // `cargo test` only sees whether it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    for _ in 0..if is_bench { 301 } else { 11 } {
        times[0].push(first_chunk(&mut plain).await);
        times[1].push(first_chunk(&mut in_memory).await);
        times[2].push(first_chunk(&mut on_disk).await);
        times[3].push(sync(directory.path()));
    }
    let [plain, in_memory, on_disk, sync] = times.map(median);
    let added = |time: Duration| time.saturating_sub(plain);
    println!("first chunk, not metered: {plain:?}");
    println!("added by metering in memory: {:?}", added(in_memory));
    println!(
        "added by metering into a file: {:?}, {:.2} x writing and syncing a page ({sync:?})",
        added(on_disk),
        added(on_disk).as_secs_f64() / sync.as_secs_f64(),
    );
    ledger.close().await.unwrap();
}

/// How long it takes from the call to the first chunk; the rest is read, too.
async fn first_chunk<S, B>(service: &mut S) -> Duration
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error = Infallible> + Unpin,
{
    let request = Request::post("/v1/chat/completions")
        .body(Full::from(ASKED))
        .unwrap();
    let begun = Instant::now();
    let Ok(response) = service.ready().await.unwrap().call(request).await;
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap();
    let time = begun.elapsed();
    assert!(first.data_ref().is_some_and(|data| !data.is_empty()));
    while body.frame().await.is_some() {}
    time
}

/// How long the disk takes to keep a page.
fn sync(directory: &Path) -> Duration {
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("page"));
    let mut file = file.unwrap();
    let begun = Instant::now();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[7; 4096]).unwrap();
    file.sync_data().unwrap();
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn meter(sink: Arc<dyn Sink>) -> ModelMeter<impl Fn(&Extensions) -> Option<Attribution>> {
    let subject: Arc<str> = "alice".into();
    let rate = Rate::new("1.00".parse().unwrap(), "2.00".parse().unwrap());
    let prices = PriceList::new([PriceEntry::new("m", rate)]).unwrap();
    ModelMeter::new(sink, prices, move |_: &Extensions| {
        Some(Attribution::new(Arc::clone(&subject)))
    })
}

/// Chunks, the last one first.
struct Chunks(Vec<&'static str>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.0.pop();
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))))
    }
}

/// A sink with room for all, that keeps nothing.
struct Forget;

impl Sink for Forget {
    fn admit(&self) -> Result<(), tower_usage::Full> {
        Ok(())
    }

    fn record(&self, _: UsageRecord) {}

    fn forgo(&self, _: Option<RecordId>) {}
}
