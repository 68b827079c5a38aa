//! How do I meter what goes to a server that speaks OpenAI's API, without touching it or its clients?
//!
//! A reverse proxy. Chat completions go through the layers that meter them, into a ledger and to standard output as lines
//! of JSON; what only reads goes by them; nothing else goes through, since nobody would meter it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, io};

use bytes::Bytes;
use http::{Extensions, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::{net::TcpListener, signal::ctrl_c};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_usage::llm::{Attribution, CallBody, ModelCallLayer, ModelMeter};
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};
use tower_usage::{Import, JsonLines, PriceList, Sink, Tee, UsageLayer};

mod outbound;
#[cfg(test)]
mod tests;

use self::outbound::{Upstream, boxed, empty};

/// Of a request or a response, wherever it comes from.
type Body = UnsyncBoxBody<Bytes, BoxError>;
/// Answers requests.
type Proxy = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// Whom a call is put down to.
#[derive(Clone)]
struct User(Arc<str>);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let ledger = SqliteLedger::open("usage.db", LedgerOptions::new())?;
    let lines = Arc::new(JsonLines::new(io::stdout())?);
    let sink = Tee::new(ledger.clone()).copy_to(lines.clone());
    // The file that LiteLLM keeps, `model_prices_and_context_window.json`. Without it tokens are recorded, and no cost.
    let prices = match env::var("PRICES") {
        Ok(path) => PriceList::new(Import::read(&fs::read_to_string(path)?)?.entries)?,
        Err(_) => PriceList::default(),
    };
    let proxy = proxy(
        Arc::new(sink),
        prices,
        Upstream::new(&env::var("UPSTREAM")?)?,
    );

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    tokio::select! {
        ended = serve(listener, proxy) => drop(ended?),
        _ = ctrl_c() => {}
    }
    // What was let in is in the file before we go.
    tokio::time::timeout(Duration::from_secs(10), ledger.close()).await??;
    lines.flush();
    Ok(())
}

async fn serve(listener: TcpListener, proxy: Proxy) -> io::Result<Infallible> {
    loop {
        let (stream, peer) = listener.accept().await?;
        // Here every address is a user.
        let user = User(peer.ip().to_string().into());
        let map = move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(user.clone());
            request.map(boxed)
        };
        let service = TowerToHyperService::new(proxy.clone().map_request(map));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn proxy(sink: Arc<dyn Sink>, prices: PriceList, upstream: Upstream) -> Proxy {
    let meter = ModelMeter::new(sink, prices, |extensions: &Extensions| {
        let User(user) = extensions.get()?;
        Some(Attribution::new(user.clone()))
    });
    // Answers are read on when a client leaves, so that what is paid for is known to the token.
    let meter = meter.drain(Duration::from_secs(60), 1 << 20);
    let forward = service_fn(move |request| upstream.clone().forward(request));
    let forward = Proxy::new(forward);
    let metered = ServiceBuilder::new()
        .map_response(|response: Response<_>| response.map(boxed))
        .layer(ModelCallLayer::new())
        .layer(UsageLayer::new(meter))
        .map_request(|request: Request<CallBody>| request.map(boxed))
        .service(forward.clone());
    let metered = Proxy::new(metered);
    Proxy::new(service_fn(move |request: Request<Body>| {
        let path = request.uri().path();
        let way = match *request.method() {
            Method::POST if path == "/v1/chat/completions" => metered.clone(),
            Method::GET => forward.clone(),
            _ => Proxy::new(service_fn(async |_| Ok(empty(StatusCode::NOT_FOUND)))),
        };
        way.oneshot(request)
    }))
}
