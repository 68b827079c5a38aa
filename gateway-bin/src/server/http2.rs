//! HTTP/2 (RFC 9113), where a client has agreed on it. What is behind the listener sees the same requests as by HTTP/1.1.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tower::{ServiceExt, service_fn};
use tower_service::Service;
use tracing::debug;

use super::HEADER_TIMEOUT;
use crate::shutdown::Shutdown;

/// Most requests of one connection that are answered at the same time; fewer than a hundred are not advised (RFC 9113
/// section 6.5.2).
const MAX_STREAMS: u32 = 100;

/// What a client may send of a request that nobody reads, and of all of them together.
const WINDOW: u32 = 512 * 1_024;
const WINDOWS: u32 = 1_024 * 1_024;

/// What is kept of an answer that is not taken, beside the part that was made last.
const UNSENT: usize = 64 * 1_024;

/// How long a connection without a new request is kept, as nginx has it.
const IDLE: Duration = Duration::from_secs(75);

/// How often a client that says nothing is asked whether it is there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);

/// How long a connection that ends may stand still, if it is not us who are waited for.
const STILL: Duration = Duration::from_secs(60);

/// The same of one that was never used.
const UNUSED: Duration = Duration::from_secs(1);

/// More bytes than there are in pings of so long.
const OF_PINGS: u64 = 512;

/// Serves one connection until it ends, or until it has finished what it is at: after the end of `shutdown`, and after its
/// first answer when that has begun. `sent` counts what the client has taken.
pub(super) async fn serve<I, S, B>(stream: I, sent: &AtomicU64, service: S, shutdown: &Shutdown)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    let stop = shutdown.end().child_token();
    let asked = Arc::new(Notify::new());
    let answering = Arc::new(AtomicUsize::new(0));
    let service = service_fn({
        let (shutdown, stop) = (shutdown.clone(), stop.clone());
        let (asked, answering) = (Arc::clone(&asked), Arc::clone(&answering));
        move |mut request| {
            asked.notify_one();
            in_origin_form(&mut request);
            let (service, shutdown, stop) = (service.clone(), shutdown.clone(), stop.clone());
            let answering = Answering::new(&answering);
            async move {
                let response = service.oneshot(request).await?;
                if shutdown.has_begun() {
                    stop.cancel();
                }
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, answering)))
            }
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOWS)
        .max_send_buf_size(UNSENT);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let (mut has_asked, mut is_last) = (false, false);
    let mut since = Instant::now();
    let mut sent_then = 0;
    let ended = loop {
        let patience = match (is_last, has_asked) {
            (false, false) => HEADER_TIMEOUT,
            (false, true) => IDLE,
            (true, false) => UNUSED,
            (true, true) => STILL,
        };
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = asked.notified() => {
                has_asked = true;
                since = Instant::now();
            }
            () = stop.cancelled(), if !is_last => {
                connection.as_mut().graceful_shutdown();
                (is_last, since) = (true, Instant::now());
            }
            () = sleep_until(since + patience) => {
                let sent_now = sent.load(Ordering::Relaxed);
                let goes_on = answering.load(Ordering::Relaxed) > 0
                    || sent_now.saturating_sub(sent_then) > OF_PINGS;
                if is_last && !(has_asked && goes_on) {
                    debug!("connection ended, since its client takes nothing of what it asked for");
                    return;
                }
                // What is being answered goes on.
                connection.as_mut().graceful_shutdown();
                (is_last, since, sent_then) = (true, Instant::now(), sent_now);
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
    }
}

/// An answer of which it is us who have to make the next part. Counted as long as it is there.
struct Answering(Arc<AtomicUsize>);

impl Answering {
    fn new(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(all))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// The body of an answer, which says when it is us who are waited for, and when the client.
    struct Answer<B> {
        #[pin]
        body: B,
        all: Arc<AtomicUsize>,
        next: Option<Answering>,
    }
}

impl<B> Answer<B> {
    fn new(body: B, next: Answering) -> Self {
        Self {
            body,
            all: Arc::clone(&next.0),
            next: Some(next),
        }
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(cx);
        match &polled {
            Poll::Pending => {
                this.next.get_or_insert_with(|| Answering::new(this.all));
            }
            Poll::Ready(_) => *this.next = None,
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Gives a request the form that it has by HTTP/1.1, as an intermediary does: the host in a header (RFC 9113 section 8.3.1),
/// the path alone in its target, and one line of cookies (section 8.2.3).
pub(super) fn in_origin_form<B>(request: &mut Request<B>) {
    let uri = request.uri();
    if let Some(authority) = uri.authority() {
        let host = HeaderValue::from_str(authority.as_str());
        let target = uri.path_and_query().cloned().map(Uri::from);
        if let Ok(host) = host {
            request.headers_mut().insert(HOST, host);
        }
        // A CONNECT has none, and no route either.
        if let Some(target) = target {
            *request.uri_mut() = target;
        }
    }
    join_cookies(request.headers_mut());
}

fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    let whole = crumbs.join(&b"; "[..]);
    // Parts that may be in a header may be in one together.
    if let Ok(mut whole) = HeaderValue::from_bytes(&whole) {
        whole.set_sensitive(true);
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty, Full};
    use hyper::client::conn::http2::{self, SendRequest};
    use tokio::io::DuplexStream;
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;
    use crate::server::send_timeout::SendTimeout;

    fn asked(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        in_origin_form(&mut request);
        request
    }

    async fn serving<S, B>(stream: DuplexStream, service: S, shutdown: Shutdown)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        let stream = SendTimeout::new(stream, Duration::from_secs(30));
        let sent = stream.sent();
        serve(stream, &sent, service, &shutdown).await;
    }

    /// A client's end of a connection whose requests are answered after so many seconds, and the server's end.
    async fn connect(
        shutdown: &Shutdown,
    ) -> (
        SendRequest<Empty<Bytes>>,
        JoinHandle<hyper::Result<()>>,
        JoinHandle<()>,
    ) {
        let (ours, theirs) = tokio::io::duplex(64 * 1_024);
        let service = service_fn(async |request: Request<Incoming>| {
            let seconds = request.uri().path()[1..].parse().unwrap();
            sleep(Duration::from_secs(seconds)).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"done"))))
        });
        let server = tokio::spawn(serving(theirs, service, shutdown.clone()));
        let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(ours))
            .await
            .unwrap();
        (client, tokio::spawn(connection), server)
    }

    async fn ask(client: &mut SendRequest<Empty<Bytes>>, seconds: u64) -> hyper::Result<Bytes> {
        let request = Request::get(format!("https://a.example/{seconds}"));
        let response = client.send_request(request.body(Empty::new()).unwrap());
        Ok(response.await?.into_body().collect().await?.to_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_is_hung_up_on() {
        let shutdown = Shutdown::new();
        let begun = Instant::now();
        let (_client, _connection, server) = connect(&shutdown).await;
        server.await.unwrap();
        let limit = HEADER_TIMEOUT + UNUSED;
        assert!(begun.elapsed() <= limit, "{:?}", begun.elapsed());

        // Not even by the preface.
        let (_ours, theirs) = tokio::io::duplex(1_024);
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let begun = Instant::now();
        let server = tokio::spawn(serving(theirs, service, shutdown.clone()));
        server.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), limit.as_secs());
        // And nobody waits for it.
        let (_ours, theirs) = tokio::io::duplex(1_024);
        let server = tokio::spawn(serving(theirs, service, shutdown.clone()));
        shutdown.end().cancel();
        let begun = Instant::now();
        server.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), UNUSED.as_secs());
    }

    /// What is answered to who reads nothing of it is thrown away in the end; who waits for us is waited for.
    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_hung_up_on_and_who_waits_for_one_is_not() {
        for (seconds, window, is_answered) in [(1_000, 65_535, true), (0, 1, false)] {
            let (ours, theirs) = tokio::io::duplex(64 * 1_024);
            let service = service_fn(move |_: Request<Incoming>| async move {
                sleep(Duration::from_secs(seconds)).await;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![0; 1 << 20]))))
            });
            let server = tokio::spawn(serving(theirs, service, Shutdown::new()));
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(window);
            let connected = builder.handshake(TokioIo::new(ours)).await;
            let (mut client, connection) = connected.unwrap();
            tokio::spawn(connection);
            let begun = Instant::now();
            let request = Request::get("https://a.example/").body(Empty::<Bytes>::new());
            let answer = client.send_request(request.unwrap()).await.unwrap();
            if is_answered {
                let body = answer.into_body().collect().await.unwrap();
                assert_eq!(body.to_bytes().len(), 1 << 20);
                server.await.unwrap();
                assert!(begun.elapsed().as_secs() >= seconds);
            } else {
                // It is held, and not read.
                server.await.unwrap();
                let passed = begun.elapsed();
                assert!(passed <= IDLE + STILL * 2, "{passed:?}");
                assert!(answer.into_body().collect().await.is_err());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_idles_ends_and_no_answer_is_cut_off() {
        let shutdown = Shutdown::new();
        let (mut client, connection, server) = connect(&shutdown).await;
        let begun = Instant::now();
        assert_eq!(ask(&mut client, 0).await.unwrap(), "done");
        assert_eq!(ask(&mut client, IDLE.as_secs() * 2).await.unwrap(), "done");
        server.await.unwrap();
        assert!(begun.elapsed() >= IDLE * 2, "{:?}", begun.elapsed());
        connection.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_gateway_ends_an_answer_is_the_last_one() {
        let shutdown = Shutdown::new();
        let (mut client, connection, server) = connect(&shutdown).await;
        assert_eq!(ask(&mut client, 0).await.unwrap(), "done");
        shutdown.begin();
        let begun = Instant::now();
        let mut other = client.clone();
        let slow = tokio::spawn(async move { ask(&mut other, 30).await });
        tokio::task::yield_now().await;
        assert_eq!(ask(&mut client, 0).await.unwrap(), "done");
        assert_eq!(
            slow.await.unwrap().unwrap(),
            "done",
            "it was asked for before"
        );
        server.await.unwrap();
        connection.await.unwrap().unwrap();
        assert!(begun.elapsed() < IDLE);
        assert!(ask(&mut client, 0).await.is_err(), "it is asked elsewhere");
    }

    /// A server may answer before it has read everything, and then resets the stream without an error (RFC 9113 section 8.1).
    /// curl 7.88 takes that for one.
    #[tokio::test]
    async fn who_sends_too_much_reads_why() {
        let (ours, theirs) = tokio::io::duplex(64 * 1_024);
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"too large"))))
        });
        tokio::spawn(serving(theirs, service, Shutdown::new()));
        let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(ours)).await;
        let (mut client, connection) = connected.unwrap();
        tokio::spawn(connection);
        for _ in 0..3 {
            let body = Full::new(Bytes::from(vec![0; 1 << 20]));
            let request = Request::post("https://a.example/").body(body).unwrap();
            let answer = client.send_request(request).await.unwrap();
            let answer = answer.into_body().collect().await.unwrap();
            assert_eq!(answer.to_bytes(), "too large");
        }
    }

    #[test]
    fn the_host_is_the_one_that_was_asked_and_the_target_a_path() {
        let request = asked(
            "https://a.example:8443/chat?session=1",
            &[("host", "b.example")],
        );
        assert_eq!(request.uri(), "/chat?session=1");
        assert_eq!(request.headers()[HOST], "a.example:8443");
        assert_eq!(request.headers().get_all(HOST).iter().count(), 1);
    }

    #[test]
    fn crumbs_are_one_cookie_header() {
        let request = asked(
            "https://a.example/",
            &[("cookie", "a=1"), ("cookie", "b=2")],
        );
        let cookies: Vec<_> = request.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
        let request = asked("https://a.example/", &[("cookie", "a=1; b=2")]);
        assert_eq!(request.headers()[COOKIE], "a=1; b=2");
        assert!(
            !asked("https://a.example/", &[])
                .headers()
                .contains_key(COOKIE)
        );
    }
}
