//! Attacks on the WebSocket itself, byte by byte: a client that keeps to no rule ends its own socket, and nobody else's.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::time::{Duration, Instant};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    person::{Person, connect_params},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// FIN and the opcode of a text, of the end of a message, of a close, and of a ping.
const TEXT: u8 = 0x81;
const END: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

/// How long an answer may take: the first one makes the agent.
const LIMIT: Duration = Duration::from_secs(60);

struct Place {
    gateway: Gateway,
    person: Person,
    _dir: TempDir,
}

/// A socket of which every byte is ours.
struct Raw {
    stream: TcpStream,
    /// The head of the answer to the upgrade.
    head: String,
}

/// What the server sent.
#[derive(Debug, Eq, PartialEq)]
enum Frame {
    Text(String),
    Close(Option<u16>),
    Other(u8),
    /// The connection is gone.
    End,
}

async fn start() -> Result<Place> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
    let person = Person::sign_in(&kit, "bob", &gateway).await?;
    Ok(Place {
        gateway,
        person,
        _dir: dir,
    })
}

// === impl Place ===

impl Place {
    /// Sends `head` as it is, and reads the head of the answer.
    async fn ask(&self, head: &str) -> Raw {
        let address = self.gateway.url("").replace("http://", "");
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("a request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            match timeout(LIMIT, stream.read_u8()).await.expect("an answer") {
                Ok(byte) => answer.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8_lossy(&answer).into_owned();
        Raw { stream, head }
    }

    fn head(&self, method: &str, path: &str, headers: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n",
            self.person.token
        )
    }

    async fn open(&self) -> Raw {
        let headers = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";
        let mut raw = self.ask(&self.head("GET", "/ws", headers)).await;
        assert!(raw.head.starts_with("HTTP/1.1 101"), "{}", raw.head);
        let challenge = raw.next().await;
        assert!(matches!(challenge, Frame::Text(_)), "{challenge:?}");
        raw
    }

    /// A socket whose handshake is done.
    async fn connected(&self) -> Raw {
        let mut raw = self.open().await;
        let frame = json!({"type": "req", "id": "c", "method": "connect", "params": connect_params(&json!({}))});
        raw.send(TEXT, frame.to_string().as_bytes()).await;
        let hello = raw.answer("c").await;
        assert_eq!(hello["ok"], true, "{hello}");
        raw
    }
}

// === impl Raw ===

impl Raw {
    async fn write(&mut self, bytes: &[u8]) {
        // It may have been closed by then: what it said is read afterwards.
        let _ = self.stream.write_all(bytes).await;
    }

    /// A frame with its shortest length, masked with zeros.
    async fn send(&mut self, first: u8, payload: &[u8]) {
        self.write(&frame(first, payload)).await;
    }

    async fn next(&mut self) -> Frame {
        timeout(LIMIT, self.read())
            .await
            .expect("something or the end")
            .unwrap_or(Frame::End)
    }

    async fn read(&mut self) -> std::io::Result<Frame> {
        let first = self.stream.read_u8().await?;
        let length = match self.stream.read_u8().await? {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        self.stream.read_exact(&mut payload).await?;
        Ok(match first {
            TEXT => Frame::Text(String::from_utf8_lossy(&payload).into_owned()),
            CLOSE => Frame::Close(
                payload
                    .first_chunk()
                    .map(|code: &[u8; 2]| u16::from_be_bytes(*code)),
            ),
            other => Frame::Other(other),
        })
    }

    /// The response to the request `id`.
    async fn answer(&mut self, id: &str) -> Value {
        loop {
            match self.next().await {
                Frame::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap_or_default();
                    if frame["type"] == "res" && frame["id"] == id {
                        return frame;
                    }
                }
                Frame::Other(_) => {}
                ended => panic!("{ended:?} instead of an answer"),
            }
        }
    }

    /// With what the server closed.
    async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Frame::Close(code) => return code,
                Frame::End => return None,
                Frame::Text(_) | Frame::Other(_) => {}
            }
        }
    }

    /// Asks for something, and gets it.
    async fn works(&mut self) {
        self.send(TEXT, &request("w")).await;
        assert_eq!(self.answer("w").await["ok"], true);
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap_or_default()),
        length @ 126..65_536 => {
            frame.push(0xfe);
            frame.extend(u16::try_from(length).unwrap_or_default().to_be_bytes());
        }
        length => {
            frame.push(0xff);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn request(id: &str) -> Vec<u8> {
    let frame = json!({"type": "req", "id": id, "method": "users.self", "params": {}});
    frame.to_string().into_bytes()
}

#[tokio::test]
async fn d3_29_no_other_request_becomes_a_socket() -> Result<()> {
    let place = start().await?;
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";
    for (method, path, headers) in [
        ("POST", "/ws", upgrade),
        ("HEAD", "/ws", upgrade),
        ("OPTIONS", "/ws", upgrade),
        ("GET", "/ws/", upgrade),
        ("GET", "//ws", upgrade),
        ("GET", "/api/quota", upgrade),
        ("GET", "/chat/x", upgrade),
        ("GET", "/health", upgrade),
        (
            "GET",
            "/ws",
            "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\n",
        ),
        (
            "GET",
            "/ws",
            "connection: Upgrade\r\nupgrade: websocket\r\n",
        ),
        (
            "GET",
            "/ws",
            "connection: keep-alive\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
        ),
        (
            "GET",
            "/ws",
            "connection: Upgrade\r\nupgrade: h2c\r\nsec-websocket-version: 13\r\n",
        ),
        (
            "GET",
            "/ws",
            "connection: Upgrade\r\nupgrade: websocket, h2c\r\nsec-websocket-version: 13\r\n",
        ),
        (
            "GET",
            "/ws",
            "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: BBBBBBBBBBBBBBBBBBBBBB==\r\n",
        ),
    ] {
        let headers = format!("{headers}content-length: 0\r\n");
        let raw = place.ask(&place.head(method, path, &headers)).await;
        let status = raw.head.get(9..12).unwrap_or_default();
        assert!(
            status.starts_with('4') || status == "200",
            "{method} {path} {headers}: {}",
            raw.head
        );
        assert!(
            !raw.head.to_lowercase().contains("sec-websocket-accept"),
            "{path}: {}",
            raw.head
        );
    }
    // In other letters, and within a list, it is one.
    let headers =
        "CONNECTION: keep-alive, UPGRADE\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n";
    let raw = place.ask(&place.head("GET", "/ws", headers)).await;
    assert!(raw.head.starts_with("HTTP/1.1 101"), "{}", raw.head);

    // What is sent before the answer is read after it, and not without who sends it being known.
    let connect = json!({"type": "req", "id": "c", "method": "connect", "params": connect_params(&json!({}))});
    let early = [
        frame(TEXT, connect.to_string().as_bytes()),
        frame(TEXT, &request("w")),
    ]
    .concat();
    let early = String::from_utf8_lossy(&early).into_owned();
    let whole = place.head("GET", "/ws", upgrade);
    let nobody = whole.replace(&place.person.token, "nobody");
    let raw = place.ask(&format!("{nobody}{early}")).await;
    assert!(raw.head.starts_with("HTTP/1.1 401"), "{}", raw.head);
    Ok(())
}

#[tokio::test]
async fn d3_30_frames_that_break_a_rule_close_the_socket() -> Result<()> {
    let place = start().await?;
    let mut bystander = place.connected().await;
    let long_ping = frame(PING, &[0; 126]);
    let mut unmasked = vec![TEXT, 5];
    unmasked.extend(b"hello");
    let begun = frame(0x01, b"{");
    for (what, bytes, code) in [
        ("a first reserved bit", frame(TEXT | 0x40, b"{}"), 1002),
        ("a second reserved bit", frame(TEXT | 0x20, b"{}"), 1002),
        ("a third reserved bit", frame(TEXT | 0x10, b"{}"), 1002),
        ("a reserved opcode", frame(0x83, b"{}"), 1002),
        ("another one", frame(0x87, b"{}"), 1002),
        ("a reserved control opcode", frame(0x8b, b""), 1002),
        ("another one", frame(0x8f, b""), 1002),
        ("no mask", unmasked, 1002),
        ("a long ping", long_ping, 1002),
        ("a ping in parts", frame(0x09, b""), 1002),
        ("a close in parts", frame(0x08, b""), 1002),
        ("an end without a beginning", frame(END, b"{}"), 1002),
        ("a part without a beginning", frame(0x00, b"{}"), 1002),
        (
            "a message within another",
            [begun.clone(), frame(TEXT, b"{}")].concat(),
            1002,
        ),
        ("a close of one byte", frame(CLOSE, &[3]), 1002),
    ] {
        let mut raw = place.connected().await;
        raw.write(&bytes).await;
        assert_eq!(raw.closed().await, Some(code), "{what}");
    }
    // Lengths that nobody would send for real, of which not one byte more is needed.
    for length in [1_u64 << 63, u64::MAX, 30 << 20] {
        let mut raw = place.connected().await;
        raw.write(&[[TEXT, 0xff].as_slice(), &length.to_be_bytes(), &[0; 4]].concat())
            .await;
        let code = raw.closed().await;
        assert!(matches!(code, Some(1002 | 1009)), "{length}: {code:?}");
    }
    // Before it is known what a client is, its message is short, in however many parts.
    let mut raw = place.open().await;
    let mut parts = frame(0x01, b"{");
    for _ in 0..70_000 {
        parts.extend(frame(0x00, b" "));
    }
    raw.write(&parts).await;
    let code = raw.closed().await;
    assert!(matches!(code, Some(1009) | None), "{code:?}");

    // Parts of nothing, and a ping between them, are within the rules.
    let mut raw = place.connected().await;
    let asked = request("p");
    let (head, tail) = asked.split_at(10);
    let mut parts = frame(0x01, head);
    for _ in 0..20_000 {
        parts.extend(frame(0x00, b""));
    }
    parts.extend(frame(PING, b"x"));
    parts.extend(frame(END, tail));
    raw.write(&parts).await;
    assert_eq!(raw.answer("p").await["ok"], true);
    bystander.works().await;
    Ok(())
}

#[tokio::test]
async fn d3_31_text_that_is_no_utf_8_closes_the_socket() -> Result<()> {
    let place = start().await?;
    for (what, bytes) in [
        ("a byte that is none", frame(TEXT, b"\"\xff\"")),
        ("an overlong slash", frame(TEXT, b"\"\xc0\xaf\"")),
        ("half of a pair", frame(TEXT, b"\"\xed\xa0\x80\"")),
        ("beyond the last", frame(TEXT, b"\"\xf4\x90\x80\x80\"")),
        ("half a character at the end", frame(TEXT, b"\"\xc3")),
        (
            "in a part, of which the rest never comes",
            frame(0x01, b"\"\xff"),
        ),
    ] {
        let mut raw = place.connected().await;
        raw.write(&bytes).await;
        assert_eq!(raw.closed().await, Some(1007), "{what}");
    }
    // A character in two parts is one.
    let mut raw = place.connected().await;
    let asked = String::from_utf8(request("ä")).expect("JSON");
    let at = asked.find('ä').expect("it is there") + 1;
    let (head, tail) = asked.as_bytes().split_at(at);
    raw.write(&[frame(0x01, head), frame(END, tail)].concat())
        .await;
    assert_eq!(raw.answer("ä").await["ok"], true);
    Ok(())
}

#[tokio::test]
async fn d3_32_no_extension_is_accepted() -> Result<()> {
    let place = start().await?;
    let headers = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";
    let mut raw = place.ask(&place.head("GET", "/ws", headers)).await;
    assert!(raw.head.starts_with("HTTP/1.1 101"), "{}", raw.head);
    assert!(
        !raw.head.to_lowercase().contains("sec-websocket-extensions"),
        "{}",
        raw.head
    );
    assert!(matches!(raw.next().await, Frame::Text(_)));
    // A compressed nothing.
    raw.send(TEXT | 0x40, &[0x02, 0x00]).await;
    let code = raw.closed().await;
    assert!(matches!(code, Some(1002) | None), "{code:?}");
    Ok(())
}

#[tokio::test]
async fn d3_33_floods_and_odd_closings_end_nobody_elses_socket() -> Result<()> {
    let place = start().await?;
    let mut bystander = place.connected().await;
    let close = |code: u16, reason: &[u8]| [&code.to_be_bytes(), reason].concat();
    for (what, payload) in [
        ("1005", close(1005, b"")),
        ("1006", close(1006, b"")),
        ("1015", close(1015, b"")),
        ("0", close(0, b"")),
        ("999", close(999, b"")),
        ("5000", close(5000, b"")),
        ("a long reason", close(1000, &[b'x'; 124])),
        ("a reason that is no text", close(1000, b"\xff")),
        ("nothing", Vec::new()),
        ("1000", close(1000, b"bye")),
    ] {
        let mut raw = place.connected().await;
        raw.send(CLOSE, &payload).await;
        // What comes behind it is not read.
        raw.send(TEXT, &request("late")).await;
        let code = raw.closed().await;
        assert!(
            !matches!(code, Some(1005 | 1006 | 1015 | 0 | 999 | 5000)),
            "{what}: {code:?}"
        );
        assert_eq!(raw.next().await, Frame::End, "{what}");
    }
    // Pings and pongs without end, of which the answers are read.
    let mut raw = place.connected().await;
    for _ in 0..200 {
        let some = [frame(PING, b"flood"), frame(0x8a, b"flood")]
            .concat()
            .repeat(100);
        raw.write(&some).await;
        bystander.works().await;
        while let Ok(Ok(_)) = timeout(Duration::from_millis(1), raw.stream.readable()).await {
            let mut read = vec![0; 1 << 16];
            if !raw.stream.try_read(&mut read).is_ok_and(|read| read > 0) {
                break;
            }
        }
    }
    // Half of the connection is closed.
    let mut raw = place.connected().await;
    raw.stream.shutdown().await.expect("half of it");
    raw.closed().await;
    assert_eq!(raw.next().await, Frame::End);
    bystander.works().await;
    Ok(())
}

#[tokio::test]
async fn d3_37_of_many_sockets_at_once_a_person_has_sixteen() -> Result<()> {
    let place = start().await?;
    // The agent is there before the race.
    let mut first = place.connected().await;
    let connect = json!({"type": "req", "id": "c", "method": "connect", "params": connect_params(&json!({}))});
    let connect = connect.to_string();
    let race = (0..24).map(async |_| {
        let mut raw = place.open().await;
        raw.send(TEXT, connect.as_bytes()).await;
        loop {
            match raw.next().await {
                Frame::Text(text) if text.contains(r#""id":"c""#) => {
                    break (text.contains(r#""ok":true"#), raw);
                }
                Frame::Text(_) | Frame::Other(_) => {}
                Frame::Close(_) | Frame::End => break (false, raw),
            }
        }
    });
    let mut opened = futures_util::future::join_all(race).await;
    opened.retain(|(opened, _)| *opened);
    assert_eq!(opened.len(), 15);
    first.works().await;
    // Who leaves makes room, as soon as the gateway has seen it.
    drop(first);
    let begun = Instant::now();
    loop {
        let mut raw = place.open().await;
        raw.send(TEXT, connect.as_bytes()).await;
        if raw.answer("c").await["ok"] == true {
            raw.works().await;
            return Ok(());
        }
        assert!(begun.elapsed() < LIMIT, "nobody made room");
    }
}
