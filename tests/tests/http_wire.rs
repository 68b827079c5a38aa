//! Requests that two readers could read in two ways, or that never end, byte by byte at the public listener.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// What a request that is not understood may cost in time.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the end of an answer is waited for where the connection stays open.
const QUIET: Duration = Duration::from_millis(700);

struct Listener {
    gateway: Gateway,
    _dir: tempfile::TempDir,
    token: String,
}

/// What came back on a connection.
#[derive(Debug)]
struct Answers {
    /// Status codes, in order.
    statuses: Vec<u16>,
    is_closed: bool,
}

// === impl Listener ===

impl Listener {
    async fn start() -> Result<Self> {
        let kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a directory");
        let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
        let token = kit.issuer().token("alice").await?;
        Ok(Self {
            gateway,
            _dir: dir,
            token,
        })
    }

    /// A request line, the headers of somebody who is signed in, and what follows.
    fn request(&self, line: &str, rest: &str) -> Vec<u8> {
        let token = &self.token;
        format!("{line}\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{rest}").into_bytes()
    }

    /// Well-formed, and answered with 200.
    fn good(&self) -> Vec<u8> {
        self.request("GET /api/user/info HTTP/1.1", "\r\n")
    }

    /// One that changes something, whose body is framed by `framing`, and a good one behind it.
    fn framed(&self, framing: &str) -> Vec<u8> {
        let line = "POST /api/keys HTTP/1.1";
        let rest = format!("Content-Type: application/json\r\n{framing}");
        [self.request(line, &rest), self.good()].concat()
    }

    async fn send(&self, bytes: &[u8]) -> Answers {
        let address = self.gateway.config().public;
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        // One that is refused early closes before all is sent.
        let _ = stream.write_all(bytes).await;
        let mut said = Vec::new();
        let mut is_closed = false;
        while let Ok(read) = timeout(QUIET, stream.read_buf(&mut said)).await {
            if matches!(read, Ok(0) | Err(_)) {
                is_closed = true;
                break;
            }
        }
        let said = String::from_utf8_lossy(&said);
        let heads = said.split("HTTP/1.1 ").skip(1);
        let statuses = heads.filter_map(|head| head.get(..3)?.parse().ok());
        Answers {
            statuses: statuses.collect(),
            is_closed,
        }
    }

    /// That all is as it was for everybody else.
    async fn goes_on(&self) -> Result<()> {
        let url = self.gateway.url("/api/user/info");
        let answer = http::get(&url, Some(&self.token)).await?;
        answer.expect_status(::http::StatusCode::OK).map(drop)
    }
}

#[tokio::test]
async fn d2_23_a_body_whose_end_can_be_read_in_two_ways_ends_the_connection() -> Result<()> {
    let listener = Listener::start().await?;
    let refused = [
        "Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
        "Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
        "Content-Length: 2, 2\r\n\r\n{}",
        "Content-Length: +2\r\n\r\n{}",
        "Content-Length: -1\r\n\r\n{}",
        "Content-Length: 0x2\r\n\r\n{}",
        "Content-Length: 99999999999999999999999\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
        "X-A: b\r\n  folded\r\n\r\n",
        "X-A: b\rX-User-Id: mallory\r\n\r\n",
        "X-A: b\0c\r\n\r\n",
    ];
    for framing in refused {
        let answers = listener.send(&listener.framed(framing)).await;
        assert_eq!(answers.statuses, [400], "{framing:?}: {answers:?}");
        assert!(answers.is_closed, "what follows is nobody's: {framing:?}");
    }
    // RFC 9112, section 6.1: the encoding wins, and what follows is not read.
    for framing in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ] {
        let answers = listener.send(&listener.framed(framing)).await;
        assert_eq!(answers.statuses.len(), 1, "{framing:?}: {answers:?}");
        assert!(answers.is_closed, "{framing:?}");
    }
    // What looks like a request, in a body, is none.
    let good = listener.good();
    let hidden = format!("Content-Length: {}\r\n\r\n", good.len());
    let hidden = listener.request("GET /api/user/info HTTP/1.1", &hidden);
    let answers = listener.send(&[hidden, good].concat()).await;
    assert_eq!(answers.statuses, [200], "{answers:?}");
    for line in [
        "GET /api/user info HTTP/1.1",
        "GET /api/user/info",
        "GET / HTTP/3.0",
    ] {
        let answers = listener.send(&listener.request(line, "\r\n")).await;
        assert_eq!(answers.statuses, [400], "{line}");
        assert!(answers.is_closed, "{line}");
    }
    listener.goes_on().await
}

#[tokio::test]
async fn d2_24_nothing_but_a_websocket_is_upgraded_to() -> Result<()> {
    let listener = Listener::start().await?;
    let settings = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let socket = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let h2c = format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{settings}");
    let both = format!("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n{socket}");
    for (path, upgrade, status) in [
        ("/api/user/info", &h2c, 200),
        ("/ws", &h2c, 426),
        ("/ws", &both, 426),
    ] {
        let request = listener.request(&format!("GET {path} HTTP/1.1"), upgrade);
        let answers = listener.send(&request).await;
        assert_eq!(answers.statuses, [status], "{path}: {upgrade}");
    }
    // A body is asked for where it is wanted; what else is expected is not promised.
    for (expect, is_asked_for) in [("100-continue", true), ("200-ok", false)] {
        let framing = format!("Expect: {expect}\r\nContent-Length: 1\r\n\r\n{{");
        let answers = listener.send(&listener.framed(&framing)).await;
        let is_first = answers.statuses.first() == Some(&100);
        assert_eq!(is_first, is_asked_for, "{expect}: {answers:?}");
        assert_eq!(answers.statuses.last(), Some(&200), "{expect}");
    }
    for (line, status) in [
        ("CONNECT 127.0.0.1:22 HTTP/1.1", 404),
        ("TRACE /api/user/info HTTP/1.1", 405),
    ] {
        let answers = listener.send(&listener.request(line, "\r\n")).await;
        assert_eq!(answers.statuses, [status], "{line}");
    }
    listener.goes_on().await
}

#[tokio::test]
async fn d2_26_heads_without_end_and_bodies_without_end_are_bounded() -> Result<()> {
    let listener = Listener::start().await?;
    let line = "GET /api/user/info HTTP/1.1";
    let many: String = (0..10_000).map(|n| format!("X-{n}: a\r\n")).collect();
    let long = format!("X-A: {}\r\n", "a".repeat(1 << 20));
    for head in [many, long] {
        let request = listener.request(line, &format!("{head}\r\n"));
        let answers = listener.send(&request).await;
        assert_eq!(answers.statuses, [431]);
        assert!(answers.is_closed);
    }

    // A head that comes slowly is waited for, but not for ever; a hundred of them keep nobody out.
    let begun = Instant::now();
    let address = listener.gateway.config().public;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: ")
            .await
            .expect("it is read");
        slow.push(stream);
    }
    listener.goes_on().await?;
    for mut stream in slow {
        let mut said = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
        assert!(
            ended.is_ok(),
            "it is still open after {:?}",
            begun.elapsed()
        );
    }

    // A chunk that goes on for ever is more than a body may be.
    let framing =
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n";
    let head = listener.request("POST /api/keys HTTP/1.1", framing);
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(&head).await.expect("it is read");
    let chunk = vec![b'a'; 1 << 16];
    let mut sent = 0_usize;
    while sent < 256 << 20 {
        match timeout(PATIENCE, stream.write_all(&chunk)).await {
            Ok(Ok(())) => sent += chunk.len(),
            _ => break,
        }
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    listener.goes_on().await
}
