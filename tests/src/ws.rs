//! A WebSocket client that speaks OpenClaw's frames.

use std::{collections::VecDeque, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_websockets::{
    ClientBuilder, CloseCode, MaybeTlsStream, Message, WebSocketStream, upgrade,
};

use crate::error::{Error, Result};

/// How long [`Ws`] waits unless told otherwise. The first turn of a new agent has taken
/// 18 s on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// RFC 6455, section 7.4.1: what a connection that ended without a close frame is said to have.
const ABNORMAL_CLOSURE: u16 = 1006;

/// One connection.
///
/// Frames that arrive while something else is waited for are kept and handed out later, in their
/// order.
#[derive(Debug)]
pub struct Ws {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    kept: VecDeque<Value>,
    limit: Duration,
    requests: u64,
    heard: Option<String>,
}

impl Ws {
    /// Upgrades at a `ws://` URL, with `headers` on the upgrade request.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the status of any answer but 101, [`Error::Connection`].
    pub async fn connect(url: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let uri: Uri = url.parse().map_err(|error| Error::connection(url, error))?;
        let mut builder = ClientBuilder::from_uri(uri);
        for (name, value) in headers {
            let name: HeaderName = name.parse().map_err(|e| Error::connection(url, e))?;
            let value: HeaderValue = value.parse().map_err(|e| Error::connection(url, e))?;
            builder = builder
                .add_header(name, value)
                .map_err(|error| Error::connection(url, error))?;
        }
        let connected = timeout(LIMIT, builder.connect())
            .await
            .map_err(|_| Error::Late(LIMIT, format!("the upgrade at {url}")))?;
        match connected {
            Ok((stream, _)) => Ok(Self {
                stream,
                kept: VecDeque::new(),
                limit: LIMIT,
                requests: 0,
                heard: None,
            }),
            Err(tokio_websockets::Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(
                status,
            ))) => Err(Error::Refused(
                StatusCode::from_u16(status).unwrap_or_default(),
            )),
            Err(error) => Err(Error::connection(url, error)),
        }
    }

    /// The same connection with another limit on every wait. Unset: a minute.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Keeps every text message from now on as it came, one a line, for [`heard`](Self::heard).
    pub fn listen(&mut self) {
        self.heard.get_or_insert_default();
    }

    /// What was kept. See [`listen`](Self::listen).
    #[must_use]
    pub fn heard(&self) -> &str {
        self.heard.as_deref().unwrap_or_default()
    }

    /// Sends a text frame as it is.
    ///
    /// # Errors
    ///
    /// As [`send_message`](Self::send_message).
    pub async fn send(&mut self, text: impl Into<String> + Send) -> Result<()> {
        self.send_message(Message::text(text.into())).await
    }

    /// Sends any WebSocket message: binary, ping, close.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] when the connection is gone.
    pub async fn send_message(&mut self, message: Message) -> Result<()> {
        self.stream
            .send(message)
            .await
            .map_err(|error| Error::connection("the socket", error))
    }

    /// Sends a request frame and answers its id, without waiting for the response.
    ///
    /// # Errors
    ///
    /// As [`send_message`](Self::send_message).
    pub async fn start(&mut self, method: &str, params: Value) -> Result<String> {
        self.requests += 1;
        let id = format!("t{}", self.requests);
        let frame = json!({"type": "req", "id": id, "method": method, "params": params});
        self.send(frame.to_string()).await?;
        Ok(id)
    }

    /// Sends a request frame and waits for its response frame, `ok` or not.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start) and [`next`](Self::next).
    pub async fn request(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.start(method, params).await?;
        self.response(&id).await
    }

    /// Sends a request frame and waits for the payload of its response.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`] with a response that is not `ok`, and as [`request`](Self::request).
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let mut response = self.request(method, params).await?;
        if response["ok"] == true {
            return Ok(response["payload"].take());
        }
        Err(Error::unexpected(
            "response",
            format!("{method}: {}", response["error"]),
        ))
    }

    /// Waits for the response to a request that was [started](Self::start).
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn response(&mut self, id: &str) -> Result<Value> {
        self.find(|frame| frame["type"] == "res" && frame["id"] == id)
            .await
    }

    /// Waits for an event of this name.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn event(&mut self, name: &str) -> Result<Value> {
        self.find(|frame| frame["type"] == "event" && frame["event"] == name)
            .await
    }

    /// The first frame that `wanted` accepts. Those before it are kept.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn find(&mut self, wanted: impl Fn(&Value) -> bool + Send) -> Result<Value> {
        if let Some(found) = self.kept.iter().position(&wanted) {
            return Ok(self.kept.remove(found).unwrap_or_default());
        }
        let deadline = Instant::now() + self.limit;
        loop {
            let frame = self.receive(deadline).await?;
            if wanted(&frame) {
                return Ok(frame);
            }
            self.kept.push_back(frame);
        }
    }

    /// All frames up to and with the first that `last` accepts.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn collect_until(
        &mut self,
        last: impl Fn(&Value) -> bool + Send,
    ) -> Result<Vec<Value>> {
        let deadline = Instant::now() + self.limit;
        let mut frames = Vec::new();
        loop {
            frames.push(match self.kept.pop_front() {
                Some(frame) => frame,
                None => self.receive(deadline).await?,
            });
            if frames.last().is_some_and(&last) {
                return Ok(frames);
            }
        }
    }

    /// The next frame, kept ones first.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the peer closed, [`Error::Late`] when nothing came within the limit,
    /// [`Error::Unexpected`] for a message that is no JSON text, [`Error::Connection`].
    pub async fn next(&mut self) -> Result<Value> {
        match self.kept.pop_front() {
            Some(frame) => Ok(frame),
            None => self.receive(Instant::now() + self.limit).await,
        }
    }

    /// Waits for the peer to close, whatever it sends until then: close code and reason.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), but for the closing.
    pub async fn closed(&mut self) -> Result<(u16, String)> {
        let deadline = Instant::now() + self.limit;
        loop {
            match self.receive(deadline).await {
                Ok(_) => {}
                Err(Error::Closed { code, reason }) => return Ok((code, reason)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Closes with 1000 and does not wait for the answer.
    ///
    /// # Errors
    ///
    /// As [`send_message`](Self::send_message).
    pub async fn close(mut self) -> Result<()> {
        self.send_message(Message::close(Some(CloseCode::NORMAL_CLOSURE), ""))
            .await
    }

    async fn receive(&mut self, deadline: Instant) -> Result<Value> {
        loop {
            let message = timeout_at(deadline, self.stream.next())
                .await
                .map_err(|_| Error::Late(self.limit, "a frame".to_owned()))?;
            let message = match message {
                Some(Ok(message)) => message,
                Some(Err(tokio_websockets::Error::Io(_))) | None => {
                    return Err(Error::Closed {
                        code: ABNORMAL_CLOSURE,
                        reason: String::new(),
                    });
                }
                Some(Err(error)) => return Err(Error::connection("the socket", error)),
            };
            if message.is_ping() || message.is_pong() {
                continue;
            }
            if let Some((code, reason)) = message.as_close() {
                return Err(Error::Closed {
                    code: code.into(),
                    reason: reason.to_owned(),
                });
            }
            let text = message.as_text().unwrap_or("a binary message");
            if let Some(heard) = &mut self.heard {
                heard.push_str(text);
                heard.push('\n');
            }
            return serde_json::from_str(text).map_err(|_| Error::unexpected("frame", text));
        }
    }
}
