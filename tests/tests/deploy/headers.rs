//! What a client says of itself ends at nginx.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use gateway_tests::{
    error::{Error, Result},
    nginx::Nginx,
    port::free_address,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// Every forged value holds one of these.
pub(crate) const FORGED: [&str; 2] = ["mallory", "203.0.113.66"];

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server in a gateway's place, which writes down the heads of requests as they come.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(record(stream, Arc::clone(&kept)));
            }
        });
        Self { address, heads }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().expect("nobody has panicked"))
    }
}

async fn record(mut stream: TcpStream, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            // A probe, or a connection that is kept for later.
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    heads.lock().expect("nobody has panicked").push(head);
    let _ = stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .await;
}

/// The status of a request with these header lines, sent as they are.
pub(crate) async fn ask(nginx: &Nginx, path: &str, lines: &[&str]) -> Result<String> {
    let mut stream = send(nginx, path, lines).await?;
    let mut answer = vec![0; 12];
    in_time(path, stream.read_exact(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer[9..]).into_owned())
}

/// The same, and all of an answer that is the last one of its connection.
pub(crate) async fn ask_for(nginx: &Nginx, path: &str, lines: &[&str]) -> Result<(String, String)> {
    let mut stream = send(nginx, path, lines).await?;
    let mut answer = Vec::new();
    let whole = async {
        match stream.read_to_end(&mut answer).await {
            // nginx does not take its leave where it hangs up.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    };
    in_time(path, whole).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Ok((answer.get(9..12).unwrap_or_default().to_owned(), answer))
}

async fn send(nginx: &Nginx, path: &str, lines: &[&str]) -> Result<TlsStream<TcpStream>> {
    let mut stream = nginx.tls(&[])?.connect().await?;
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    for default in ["Host: localhost", "Connection: close"] {
        let name = default.split(' ').next().unwrap_or_default().to_lowercase();
        if !lines
            .iter()
            .any(|line| line.to_lowercase().starts_with(&name))
        {
            request += &format!("{default}\r\n");
        }
    }
    for line in lines {
        request += &format!("{line}\r\n");
    }
    request.push_str("\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is sent");
    Ok(stream)
}

async fn in_time(path: &str, read: impl Future<Output = std::io::Result<usize>>) -> Result<()> {
    let read = timeout(PATIENCE, read).await;
    read.map_err(|_| Error::Late(PATIENCE, path.to_owned()))?
        .expect("an answer");
    Ok(())
}

/// Header lines that name somebody or a place.
pub(crate) const FORGERIES: [&[&str]; 12] = [
    &["X-User-Id: mallory"],
    &["x-user-id: mallory", "X-USER-ID: mallory"],
    &[
        "x_user_id: mallory",
        "X_User_Id: mallory",
        "X-User_Id: mallory",
        "x_forwarded_for: 203.0.113.66",
    ],
    &[
        "X-Session-Key: agent:mallory:main",
        "X-OpenClaw-Session-Key: mallory",
        "X-OpenClaw-Scopes: mallory",
        "X-OpenClaw-Agent-Id: mallory",
    ],
    &["X-Forwarded-For: 203.0.113.66"],
    &[
        "X-Forwarded-For: 203.0.113.66, 203.0.113.66",
        "x-forwarded-for: 203.0.113.66",
    ],
    &[
        "Forwarded: for=203.0.113.66;host=mallory",
        "X-Real-IP: 203.0.113.66",
        "X-Client-IP: 203.0.113.66",
        "True-Client-IP: 203.0.113.66",
        "CF-Connecting-IP: 203.0.113.66",
    ],
    &[
        "X-Forwarded-User: mallory",
        "X-Forwarded-Email: mallory",
        "X-Forwarded-Groups: mallory",
        "X-Forwarded-Preferred-Username: mallory",
        "X-Forwarded-Access-Token: mallory",
    ],
    &[
        "X-Auth-Request-User: mallory",
        "X-Auth-Request-Email: mallory",
        "X-Auth-Request-Groups: mallory",
        "Remote-User: mallory",
        "X-Remote-User: mallory",
    ],
    &[
        "X-Forwarded-Host: mallory",
        "X-Forwarded-Proto: mallory",
        "X-Forwarded-Prefix: mallory",
        "X-Forwarded-Uri: mallory",
        "X-Original-URL: mallory",
        "X-Rewrite-URL: mallory",
    ],
    // A header that is named here is one of this hop, and would be taken away behind it.
    &[
        "Connection: close, X-Forwarded-For, X-User-Id",
        "X-User-Id: mallory",
    ],
    &[
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "X-User-Id: mallory",
    ],
];

#[tokio::test]
async fn d2_21_what_names_somebody_ends_at_nginx_in_every_spelling() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let recorder = Recorder::start().await;
    let nginx = Nginx::start(dir.path(), [recorder.address, recorder.address]).await?;
    for path in [
        "/",
        "/ws",
        "/api/user/info",
        "/v1/models",
        "/health",
        "/auth/login",
        "/other",
    ] {
        for forgery in FORGERIES {
            assert_eq!(
                ask(&nginx, path, forgery).await?,
                "200",
                "{path} {forgery:?}"
            );
            let heads = recorder.take();
            assert_eq!(heads.len(), 1, "{path} {forgery:?}");
            let head = &heads[0];
            for forged in FORGED {
                assert!(!head.contains(forged), "{path} {forgery:?}: {head}");
            }
            let of = |name: &str| {
                head.lines()
                    .filter(|line| line.starts_with(name))
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                of("x-forwarded-for:"),
                ["x-forwarded-for: 127.0.0.1"],
                "{forgery:?}"
            );
            assert_eq!(of("upgrade:"), Vec::<&str>::new(), "{forgery:?}");
            assert!(
                !of("connection:").iter().any(|line| line.contains("x-")),
                "{head}"
            );
        }
        // No header has a space before its colon: the request is none.
        for line in ["X-User-Id : mallory", "X-User-Id\t: mallory"] {
            assert_eq!(ask(&nginx, path, &[line]).await?, "400", "{path} {line:?}");
        }
        assert_eq!(recorder.take(), Vec::<String>::new(), "{path}");
    }
    for (upgrade, passed) in [
        ("websocket", true),
        ("WebSocket", true),
        ("websocket, h2c", false),
        ("h2c, websocket", false),
    ] {
        let lines = ["Connection: Upgrade", &format!("Upgrade: {upgrade}")];
        ask(&nginx, "/ws", &lines).await?;
        let head = recorder.take().concat();
        assert_eq!(
            head.contains("\r\nupgrade: websocket\r\n"),
            passed,
            "{upgrade}: {head}"
        );
        assert!(!head.contains("h2c"), "{head}");
    }
    the_doors_are_shut(&nginx, &recorder).await
}

#[tokio::test]
async fn a_gateway_that_is_away_is_left_out_and_nobody_notices() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (recorder, away) = (Recorder::start().await, free_address()?);
    let nginx = Nginx::start(dir.path(), [away, recorder.address]).await?;
    for n in 0..10 {
        assert_eq!(ask(&nginx, "/api/user/info", &[]).await?, "200", "{n}");
    }
    assert_eq!(recorder.take().len(), 10);

    let dir = tempfile::tempdir().expect("a temporary directory");
    let nginx = Nginx::start(dir.path(), [away, free_address()?]).await?;
    let tunnel = nginx.tls(&[])?.tunnel().await?;
    let answer = gateway_tests::http::get(&tunnel.url("/ws"), None).await?;
    assert_eq!(answer.status.as_u16(), 502);
    assert_eq!(answer.json()?["error"]["code"], "unavailable");
    Ok(())
}

/// The status of a request whose body does not say how long it is, and is too long.
async fn without_end(nginx: &Nginx, path: &str) -> Result<String> {
    let lines = ["Transfer-Encoding: chunked", "Expect: 100-continue"];
    let mut stream = send(nginx, path, &lines).await?;
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    in_time(path, stream.read_exact(&mut go_on)).await?;
    let chunk = [b"10000\r\n".as_slice(), &[0; 0x1_0000], b"\r\n"].concat();
    for _ in 0..=(2 << 20) / 0x1_0000 {
        // It does not listen any more once it has had enough.
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    in_time(path, stream.read_exact(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer[9..]).into_owned())
}

/// Without TLS, by another name, and at what is for operators.
async fn the_doors_are_shut(nginx: &Nginx, recorder: &Recorder) -> Result<()> {
    let plain = format!("http://{}/chat?code=canary", nginx.http());
    let ask_plain = |method: &str, host: &str| {
        let request = http::Request::builder()
            .method(method)
            .uri(&plain)
            .header("host", host);
        gateway_tests::http::send(request, "")
    };
    let sent_on = ask_plain("GET", "localhost").await?;
    assert_eq!(sent_on.status.as_u16(), 301);
    assert_eq!(
        sent_on.header("location"),
        Some("https://localhost/chat?code=canary")
    );
    assert_eq!(
        ask_plain("POST", "localhost").await?.status.as_u16(),
        403,
        "a body has been sent in clear"
    );
    assert!(
        ask_plain("GET", "mallory.example").await.is_err(),
        "another name is hung up on"
    );
    assert_eq!(ask(nginx, "/metrics", &[]).await?, "404");
    for host in ["gateway-1:3001", "127.0.0.1:3001", "mallory.example"] {
        // Once TLS is there by our name, another one is hung up on as well.
        let (status, answer) = ask_for(nginx, "/metrics", &[&format!("Host: {host}")]).await?;
        assert_eq!(status, "", "{host}: {answer}");
    }
    assert_eq!(
        ask(nginx, "/auth/callback?code=canary&state=canary", &[]).await?,
        "200"
    );
    assert_eq!(
        recorder.take().len(),
        1,
        "only the last one has reached a gateway"
    );
    let large = ["Content-Length: 20971521"];
    assert_eq!(ask(nginx, "/v1/responses", &large).await?, "413");
    assert_eq!(
        ask(nginx, "/api/keys", &["Content-Length: 2097153"]).await?,
        "413"
    );
    assert_eq!(without_end(nginx, "/api/keys").await?, "413");
    assert_eq!(recorder.take(), Vec::<String>::new());

    let http2 = nginx.tls(&["h2", "http/1.1"])?.connect().await?;
    assert_eq!(http2.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let log = nginx.log()?;
    assert!(
        log.contains(r#""path":"/auth/callback","status":200"#),
        "{log}"
    );
    assert!(!log.contains("canary"), "a query is in the log: {log}");
    Ok(())
}
