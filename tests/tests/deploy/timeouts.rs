//! What nginx does with who is silent: the hour that it is told is too long for a test, so that it is told seconds.

use std::{net::SocketAddr, time::Duration};

use gateway_tests::{error::Result, nginx::Nginx};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

/// What the shipped file says wherever somebody may be silent for long, and what it says here.
const HOUR: &str = "3600s";
const HERE: &str = "3s";
const SECONDS: Duration = Duration::from_secs(3);

/// For so long something is said, more often than that.
const TALK: Duration = Duration::from_secs(5);

/// nginx ends everything else after a minute.
const SOON: Duration = Duration::from_secs(30);

/// In a gateway's place: a socket, or an answer that does not end, on which something is said for a while, and then nothing.
async fn talker() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    address
}

async fn talk(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let is_socket = head.windows(9).any(|part| part == b"websocket");
    let (answer, said): (&[u8], &[u8]) = if is_socket {
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            b"\x8a\x00",
        )
    } else {
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\n\n\r\n",
        )
    };
    let begin = Instant::now();
    let mut said_last = stream.write_all(answer).await;
    while said_last.is_ok() && begin.elapsed() < TALK {
        sleep(SECONDS / 6).await;
        said_last = stream.write_all(said).await;
    }
    // Until nginx has had enough.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// How long a request lasts.
async fn lasts(nginx: &Nginx, path: &str, headers: &str) -> Result<Duration> {
    let mut stream = nginx.tls(&[])?.connect().await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let begin = Instant::now();
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is sent");
    let mut answer = Vec::new();
    // nginx does not always take its leave of TLS.
    let ended = timeout(SOON, stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "{path} has not ended");
    let text = String::from_utf8_lossy(&answer);
    let status = text.get(..12).unwrap_or_default();
    assert!(["HTTP/1.1 101", "HTTP/1.1 200"].contains(&status), "{text}");
    Ok(begin.elapsed())
}

#[tokio::test]
async fn who_says_something_each_hour_is_not_cut_off() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let talker = talker().await;
    let nginx = Nginx::start_with(dir.path(), [talker, talker], &[(HOUR, HERE)]).await?;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let (ws, page, chat, v1) = tokio::try_join!(
        lasts(&nginx, "/ws", upgrade),
        lasts(&nginx, "/", upgrade),
        lasts(&nginx, "/chat/main", upgrade),
        lasts(&nginx, "/v1/chat/completions", "Connection: close\r\n"),
    )?;
    for (path, lasted) in [("/ws", ws), ("/", page), ("/chat/main", chat), ("/v1", v1)] {
        // What is said keeps it, and after that the silence is as long as it may be.
        assert!(lasted >= TALK + SECONDS - SECONDS / 6, "{path}: {lasted:?}");
    }
    Ok(())
}
