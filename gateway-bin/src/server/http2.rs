//! HTTP/2 (RFC 9113), where a client has agreed on it. What is behind the listener sees the same requests as by HTTP/1.1.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use http::{Request, Uri};
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tower::{ServiceExt, service_fn};
use tracing::debug;

use super::answers::{Answer, Answering, Answers};
use super::send_timeout::Passed;
use super::{HEADER_TIMEOUT, HttpService};
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

/// How often a client that says nothing is asked whether it is there.
const PING: Duration = Duration::from_secs(20);

/// How long it may take to answer. The question may wait behind megabytes that a slow client has still to take.
const LOST: Duration = Duration::from_secs(3 * 60);

/// How long a connection that ends may stand still, if it is not us who are waited for.
const STILL: Duration = Duration::from_secs(60);

/// The same when the gateway ends, too.
const STILL_AT_END: Duration = Duration::from_secs(10);

/// The same of one that was never used.
const UNUSED: Duration = Duration::from_secs(1);

/// More bytes than there are in pings of ours of so long.
const OF_PINGS: i64 = 512;

/// Serves one connection until it ends, or until it has finished what it is at: after the end of `shutdown`, and after its
/// first answer when that has begun. `passed` is what passes on the connection.
pub(super) async fn serve<I, S>(stream: I, passed: &Passed, service: S, shutdown: &Shutdown)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: HttpService,
{
    let end = shutdown.end();
    let stop = end.child_token();
    let answers = Arc::new(Answers::default());
    let service = service_fn({
        let (shutdown, stop) = (shutdown.clone(), stop.clone());
        let answers = Arc::clone(&answers);
        move |mut request| {
            in_origin_form(&mut request);
            let (service, shutdown, stop) = (service.clone(), shutdown.clone(), stop.clone());
            let answering = Answering::new(&answers);
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
        .keep_alive_timeout(LOST)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOWS)
        .max_send_buf_size(UNSENT);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let (mut has_asked, mut is_last, mut is_at_end) = (false, false, false);
    let (mut since, mut passed_then) = (Instant::now(), 0);
    let ended = loop {
        let patience = match (is_last, has_asked) {
            (false, false) => HEADER_TIMEOUT,
            (false, true) => IDLE,
            (true, false) => UNUSED,
            (true, true) if is_at_end => STILL_AT_END,
            (true, true) => STILL,
        };
        tokio::select! {
            // Whatever happens at the time at which patience ends came before that.
            biased;
            ended = connection.as_mut() => break ended,
            () = answers.moved.notified() => {
                has_asked = true;
                (since, passed_then) = (Instant::now(), passed.beyond_echo());
            }
            () = end.cancelled(), if !is_at_end => {
                is_at_end = true;
                (since, passed_then) = (Instant::now(), passed.beyond_echo());
            }
            () = stop.cancelled(), if !is_last => {
                connection.as_mut().graceful_shutdown();
                is_last = true;
                (since, passed_then) = (Instant::now(), passed.beyond_echo());
            }
            () = sleep_until(since + patience) => {
                let passed_now = passed.beyond_echo();
                let goes_on = answers.are_made()
                    || passed_now.saturating_sub(passed_then) > OF_PINGS;
                (since, passed_then) = (Instant::now(), passed_now);
                // Some clients give up what is being answered when they are told that the connection ends.
                if has_asked && goes_on {
                    continue;
                }
                if is_last {
                    debug!("connection ended, since its client takes nothing of what it asked for");
                    return;
                }
                connection.as_mut().graceful_shutdown();
                is_last = true;
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
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
    use bytes::Bytes;
    use http::Response;
    use http_body_util::{BodyExt, Empty, Full};
    use hyper::body::Incoming;
    use hyper::client::conn::http2::{self, SendRequest};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::{sleep, timeout};

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

    async fn serving(stream: DuplexStream, service: impl HttpService, shutdown: Shutdown) {
        let stream = SendTimeout::new(stream, Duration::from_secs(30));
        let passed = stream.passed();
        serve(stream, &passed, service, &shutdown).await;
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
        let waited = begun.elapsed();
        assert!(waited >= HEADER_TIMEOUT && waited <= limit, "{waited:?}");

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

    /// As by a link of two thousand bytes in a second.
    #[tokio::test(start_paused = true)]
    async fn who_takes_an_answer_slowly_gets_all_of_it() {
        let (ours, theirs) = tokio::io::duplex(1_024);
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![0; 1 << 20]))))
        });
        let server = tokio::spawn(serving(theirs, service, Shutdown::new()));
        let (link, slow) = tokio::io::duplex(64 * 1_024);
        tokio::spawn(async move {
            let (mut from_server, mut to_server) = tokio::io::split(ours);
            let (mut from_client, mut to_client) = tokio::io::split(slow);
            let back = tokio::io::copy(&mut from_client, &mut to_server);
            let forth = async {
                let mut part = [0; 1_024];
                while let Ok(length @ 1..) = from_server.read(&mut part).await {
                    sleep(Duration::from_millis(500)).await;
                    to_client.write_all(part.split_at(length).0).await.unwrap();
                }
            };
            tokio::join!(back, forth)
        });
        let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(link)).await;
        let (mut client, connection) = connected.unwrap();
        tokio::spawn(connection);
        let begun = Instant::now();
        let body = ask(&mut client, 0).await.unwrap();
        assert_eq!(body.len(), 1 << 20);
        assert!(
            begun.elapsed() > (IDLE + STILL) * 2,
            "{:?}",
            begun.elapsed()
        );
        server.await.unwrap();
    }

    /// Its questions are answered, and that is not what it has asked for.
    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_and_pings_is_hung_up_on_too() {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1_024);
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![0; 1 << 20]))))
        });
        let server = tokio::spawn(serving(theirs, service, Shutdown::new()));
        // SETTINGS_INITIAL_WINDOW_SIZE is 0; a GET of /, of the static table (RFC 7541).
        let mut asked = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        asked.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
        asked.extend([0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x87, 0x84]);
        ours.write_all(&asked).await.unwrap();
        let begun = Instant::now();
        let mut read = [0; 4_096];
        loop {
            let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
            if ours.write_all(&ping).await.is_err() {
                break;
            }
            match timeout(Duration::from_secs(1), ours.read(&mut read)).await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(_)) => sleep(Duration::from_secs(1)).await,
                Err(_) => {}
            }
            assert!(begun.elapsed() < IDLE + STILL * 3, "it is still there");
        }
        server.await.unwrap();
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
