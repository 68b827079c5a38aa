//! What nginx does with a gateway that is about to end: it refuses sockets, serves what is asked of it, and then is gone.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use gateway_tests::{error::Result, nginx::Nginx};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// How long nginx may take.
const SOON: Duration = Duration::from_secs(30);

/// In a gateway's place: takes sockets or refuses them, and counts what it was asked.
struct Double {
    address: SocketAddr,
    upgrades: Arc<AtomicUsize>,
    others: Arc<AtomicUsize>,
}

// === impl Double ===

impl Double {
    /// One that answers upgrades, and everything else, so.
    async fn start(upgrade: &'static str, other: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let double = Self {
            address: listener.local_addr().expect("an address"),
            upgrades: Arc::default(),
            others: Arc::default(),
        };
        let (upgrades, others) = (Arc::clone(&double.upgrades), Arc::clone(&double.others));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (upgrades, others) = (Arc::clone(&upgrades), Arc::clone(&others));
                tokio::spawn(async move {
                    let Some(head) = head(&mut stream).await else {
                        return;
                    };
                    let is_upgrade = head.contains("websocket");
                    let (count, answer) = match is_upgrade {
                        true => (upgrades, upgrade),
                        false => (others, other),
                    };
                    count.fetch_add(1, Relaxed);
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        double
    }

    fn counts(&self) -> (usize, usize) {
        (self.upgrades.load(Relaxed), self.others.load(Relaxed))
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// The status of what nginx answers.
async fn ask(nginx: &Nginx, line: &str, headers: &str) -> Result<String> {
    let mut stream = nginx.tls(&[])?.connect().await?;
    let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is sent");
    let mut status = [0; 12];
    let read = timeout(SOON, stream.read_exact(&mut status)).await;
    read.expect("in time").expect("an answer");
    Ok(String::from_utf8_lossy(&status[9..]).into_owned())
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const TAKEN: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const SERVED: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn sockets_that_a_gateway_refuses_are_opened_at_the_other_and_neither_is_left_out()
-> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ending = Double::start(REFUSED, SERVED).await;
    let other = Double::start(TAKEN, SERVED).await;
    let nginx = Nginx::start(dir.path(), [ending.address, other.address]).await?;
    // Who has fewer sockets is asked first: the one that refuses them, each time.
    for n in 0..20 {
        let path = ["/ws", "/", "/?token=none"][n % 3];
        let status = ask(&nginx, &format!("GET {path}"), UPGRADE).await?;
        assert_eq!(status, "101", "{n}: {path}");
    }
    assert_eq!(other.counts(), (20, 0));
    assert!(ending.counts().0 >= 10, "{:?}", ending.counts());
    // What is no socket goes to both as before.
    for n in 0..20 {
        assert_eq!(ask(&nginx, "GET /chat/main", "").await?, "200", "{n}");
    }
    let (to_ending, to_other) = (ending.counts().1, other.counts().1);
    assert_eq!(to_ending + to_other, 20);
    assert!(to_ending > 0 && to_other > 0, "{to_ending}, {to_other}");

    let dir = tempfile::tempdir().expect("a temporary directory");
    let both = [
        Double::start(REFUSED, SERVED).await,
        Double::start(REFUSED, SERVED).await,
    ];
    let nginx = Nginx::start(dir.path(), both.each_ref().map(|own| own.address)).await?;
    for n in 1..=20 {
        let status = ask(&nginx, "GET /ws", UPGRADE).await?;
        assert_eq!(status, "503", "{n}: in the gateway's own words");
        let asked = both.each_ref().map(|own| own.counts().0);
        assert_eq!(asked, [n, n], "each is asked once");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_answered_with_503_and_is_no_socket_is_not_asked_twice() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let both = [
        Double::start(TAKEN, REFUSED).await,
        Double::start(TAKEN, REFUSED).await,
    ];
    let nginx = Nginx::start(dir.path(), both.each_ref().map(|own| own.address)).await?;
    let empty = "Content-Length: 0\r\n";
    for n in 1..=10 {
        let line = [
            "POST /v1/chat/completions",
            "POST /api/keys",
            "GET /api/quota",
        ][n % 3];
        assert_eq!(ask(&nginx, line, empty).await?, "503", "{line}");
        let asked: usize = both.iter().map(|own| own.counts().1).sum();
        assert_eq!(asked, n, "{line}");
    }
    assert_eq!(
        ask(&nginx, "GET /ws", UPGRADE).await?,
        "101",
        "nobody is left out"
    );
    Ok(())
}
