use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Uri;
use http::header::{AUTHORIZATION, HeaderValue};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_websockets::{ClientBuilder, Limits, Message, WebSocketStream};
use tower::ServiceExt;

use crate::protocol::PROTOCOL_VERSION;

/// Largest message of a gateway.
const MAX_MESSAGE: usize = 32 << 20;

/// Sends one message through a gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Chat {
    /// What to say.
    message: String,
    /// The gateway.
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    url: Uri,
    /// An access token of the issuer.
    #[arg(
        long,
        env = "GATEWAY_TOKEN",
        hide_env_values = true,
        required_unless_present = "token_file"
    )]
    token: Option<String>,
    /// A file that holds the token.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The conversation.
    #[arg(long, default_value = "main")]
    session: String,
    /// Longest wait for the reply, in seconds.
    #[arg(long, default_value_t = 300)]
    timeout: u64,
}

#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum ChatError {
    #[error("{0} is not an http or https URL")]
    Url(Uri),
    #[error("the token holds characters that a header cannot")]
    Token,
    #[error("{}: {source}", path.display())]
    TokenFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot connect: {0}")]
    Connect(Box<dyn std::error::Error + Send + Sync>),
    #[error("connection lost: {0}")]
    Lost(String),
    #[error("{code}: {message}")]
    Refused { code: String, message: String },
    #[error("the run failed: {0}")]
    Failed(String),
    #[error("no reply in time")]
    Timeout,
}

/// What a run took, as the instance announced it.
#[derive(Debug, Default)]
struct Usage {
    model_calls: u64,
    input: u64,
    output: u64,
    cache_read: u64,
}

impl Chat {
    pub(super) async fn run(self) -> Result<(), ChatError> {
        let wait = Duration::from_secs(self.timeout);
        tokio::time::timeout(wait, self.converse())
            .await
            .unwrap_or(Err(ChatError::Timeout))
    }

    async fn converse(self) -> Result<(), ChatError> {
        let mut socket = Client {
            socket: self.connect().await?,
            next_id: 0,
        };
        // The challenge; this client has no device to sign it with, its token says who it is.
        socket.next().await?;
        let connect = json!({
            "minProtocol": PROTOCOL_VERSION, "maxProtocol": PROTOCOL_VERSION,
            "client": { "id": "cli", "version": env!("CARGO_PKG_VERSION"), "platform": "linux", "mode": "cli" },
            "role": "operator", "scopes": ["operator.read", "operator.write"], "caps": [],
        });
        socket.request("connect", connect).await?;
        socket
            .request(
                "sessions.messages.subscribe",
                json!({ "key": self.session }),
            )
            .await?;
        let send = json!({
            "sessionKey": self.session, "message": self.message, "idempotencyKey": uuid::Uuid::new_v4().to_string(),
        });
        let started = socket.request("chat.send", send).await?;
        let run = started
            .get("runId")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let usage = socket.follow(&run).await?;
        eprintln!(
            "usage: {} input, {} output, {} cached tokens in {} model calls",
            usage.input, usage.output, usage.cache_read, usage.model_calls
        );
        Ok(())
    }

    fn token(&self) -> Result<String, ChatError> {
        let Some(path) = &self.token_file else {
            return self.token.clone().ok_or(ChatError::Token);
        };
        let read = std::fs::read_to_string(path);
        let token = read.map_err(|source| ChatError::TokenFile {
            path: path.clone(),
            source,
        })?;
        Ok(token.trim().to_owned())
    }

    async fn connect(
        &self,
    ) -> Result<WebSocketStream<impl AsyncRead + AsyncWrite + Unpin + use<>>, ChatError> {
        let Some(authority) = self.url.authority() else {
            return Err(ChatError::Url(self.url.clone()));
        };
        let scheme = match self.url.scheme_str() {
            Some("http") => "ws",
            Some("https") => "wss",
            _ => return Err(ChatError::Url(self.url.clone())),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| ChatError::Connect(error.into()))?
            .https_or_http()
            .enable_http1()
            .build();
        let stream = connector
            .oneshot(self.url.clone())
            .await
            .map_err(ChatError::Connect)?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.token()?))
            .map_err(|_| ChatError::Token)?;
        bearer.set_sensitive(true);
        let base = self.url.path().trim_end_matches('/');
        let client = ClientBuilder::new()
            .uri(&format!("{scheme}://{authority}{base}/ws"))
            .map_err(|_| ChatError::Url(self.url.clone()))?
            .limits(Limits::default().max_payload_len(Some(MAX_MESSAGE)))
            .add_header(AUTHORIZATION, bearer)
            .map_err(|error| ChatError::Connect(error.into()))?;
        let connected = client.connect_on(TokioIo::new(stream)).await;
        connected
            .map(|(socket, _)| socket)
            .map_err(|error| ChatError::Connect(error.into()))
    }
}

struct Client<C> {
    socket: WebSocketStream<C>,
    next_id: u64,
}

// === impl Client ===

impl<C: AsyncRead + AsyncWrite + Unpin> Client<C> {
    async fn next(&mut self) -> Result<Value, ChatError> {
        loop {
            let message = match self.socket.next().await {
                Some(message) => message.map_err(|error| ChatError::Lost(error.to_string()))?,
                None => return Err(ChatError::Lost("the gateway is gone".to_owned())),
            };
            if let Some((code, reason)) = message.as_close() {
                return Err(ChatError::Lost(format!(
                    "closed with {} {reason}",
                    u16::from(code)
                )));
            }
            if let Some(frame) = message
                .as_text()
                .and_then(|text| serde_json::from_str(text).ok())
            {
                return Ok(frame);
            }
        }
    }

    /// Sends a request and returns its payload; events in between are not for it.
    async fn request(&mut self, method: &str, params: Value) -> Result<Value, ChatError> {
        self.next_id += 1;
        let id = self.next_id.to_string();
        let frame = json!({ "type": "req", "id": id, "method": method, "params": params });
        let sent = self.socket.send(Message::text(frame.to_string())).await;
        sent.map_err(|error| ChatError::Lost(error.to_string()))?;
        loop {
            let mut frame = self.next().await?;
            if text(&frame, "/type") != Some("res") || text(&frame, "/id") != Some(&id) {
                continue;
            }
            if frame.get("ok").and_then(Value::as_bool) == Some(true) {
                return Ok(frame
                    .get_mut("payload")
                    .map(Value::take)
                    .unwrap_or_default());
            }
            return Err(ChatError::Refused {
                code: text(&frame, "/error/code").unwrap_or("ERROR").to_owned(),
                message: text(&frame, "/error/message")
                    .unwrap_or("no reason given")
                    .to_owned(),
            });
        }
    }

    /// Prints the reply as it comes, until the run ends.
    async fn follow(&mut self, run: &str) -> Result<Usage, ChatError> {
        let mut usage = Usage::default();
        let mut out = std::io::stdout();
        let mut printed = String::new();
        loop {
            let frame = self.next().await?;
            if text(&frame, "/event") == Some("session.message") {
                usage.add(&frame, run);
                continue;
            }
            if text(&frame, "/event") != Some("chat") || text(&frame, "/payload/runId") != Some(run)
            {
                continue;
            }
            match text(&frame, "/payload/state") {
                Some("delta") => {
                    let delta = text(&frame, "/payload/deltaText").unwrap_or_default();
                    printed.push_str(delta);
                    let _ = out.write_all(delta.as_bytes()).and_then(|()| out.flush());
                }
                Some("final") => {
                    let reply = text(&frame, "/payload/message/content/0/text").unwrap_or_default();
                    // A short reply may come without deltas.
                    println!("{}", reply.strip_prefix(&*printed).unwrap_or_default());
                    return Ok(usage);
                }
                Some("error") => {
                    return Err(ChatError::Failed(
                        text(&frame, "/payload/errorMessage")
                            .unwrap_or("unknown")
                            .to_owned(),
                    ));
                }
                Some("aborted") => return Err(ChatError::Failed("aborted".to_owned())),
                _ => {}
            }
        }
    }
}

// === impl Usage ===

impl Usage {
    fn add(&mut self, frame: &Value, run: &str) {
        let of_run = text(frame, "/payload/message/__openclaw/runId") == Some(run);
        let Some(usage) = frame.pointer("/payload/message/usage").filter(|_| of_run) else {
            return;
        };
        let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.model_calls += 1;
        self.input += count("input");
        self.output += count("output");
        self.cache_read += count("cacheRead");
    }
}

fn text<'a>(frame: &'a Value, pointer: &str) -> Option<&'a str> {
    frame.pointer(pointer)?.as_str()
}
