//! HTTP/2 (RFC 9113), where a client has agreed on it. What is behind the listener sees the same requests as by HTTP/1.1.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use http::{Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::sleep;
use tower::ServiceExt;
use tower_service::Service;
use tracing::debug;

use super::HEADER_TIMEOUT;
use crate::shutdown::Shutdown;

/// Most requests of one connection that are answered at the same time; fewer than a hundred are not advised (RFC 9113
/// section 6.5.2).
const MAX_STREAMS: u32 = 100;

/// What a client may send, and what is kept for one that does not read: the standard's window, for a stream and for all of
/// them together.
const WINDOW: u32 = 65_535;

/// How long a connection without a new request is kept, as nginx has it.
const IDLE: Duration = Duration::from_secs(75);

/// How often a client that says nothing is asked whether it is there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);

/// Serves one connection until it ends, or until it has finished what it is at: after the end of `shutdown`, and after its
/// first answer when that has begun.
pub(super) async fn serve<I, S, B>(stream: I, service: S, shutdown: &Shutdown)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    let asked = Arc::new(Notify::new());
    let stop = shutdown.end().child_token();
    let service = service
        .map_request({
            let asked = Arc::clone(&asked);
            move |mut request| {
                asked.notify_one();
                in_origin_form(&mut request);
                request
            }
        })
        .map_response({
            let (shutdown, stop) = (shutdown.clone(), stop.clone());
            move |response| {
                if shutdown.has_begun() {
                    stop.cancel();
                }
                response
            }
        });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(WINDOW as usize);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let (mut has_asked, mut is_last) = (false, false);
    let ended = loop {
        let patience = if has_asked { IDLE } else { HEADER_TIMEOUT };
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = stop.cancelled(), if !is_last => {
                connection.as_mut().graceful_shutdown();
                is_last = true;
            }
            () = asked.notified() => has_asked = true,
            () = sleep(patience), if !(has_asked && is_last) => {
                if !has_asked {
                    debug!("connection ended without a request");
                    return;
                }
                // What is being answered goes on.
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
    use http_body_util::{BodyExt, Empty, Full};
    use hyper::client::conn::http2::{self, SendRequest};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    fn asked(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        in_origin_form(&mut request);
        request
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
        let service = tower::service_fn(async |request: Request<Incoming>| {
            let seconds = request.uri().path()[1..].parse().unwrap();
            sleep(Duration::from_secs(seconds)).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"done"))))
        });
        let server = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { serve(theirs, service, &shutdown).await }
        });
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
        assert_eq!(begun.elapsed().as_secs(), HEADER_TIMEOUT.as_secs());

        // Not even by the preface.
        let (_ours, theirs) = tokio::io::duplex(1_024);
        let service = tower::service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let begun = Instant::now();
        serve(theirs, service, &shutdown).await;
        assert_eq!(begun.elapsed().as_secs(), HEADER_TIMEOUT.as_secs());
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
        let service = tower::service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"too large"))))
        });
        let shutdown = Shutdown::new();
        tokio::spawn(async move { serve(theirs, service, &shutdown).await });
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
