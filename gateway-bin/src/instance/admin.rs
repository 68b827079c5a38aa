//! The administration channel of an instance: one connection by password, opened again when it ends. It also hears of
//! every message of every session, which is how model calls are joined to the runs they were made for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_websockets::Message;
use tracing::{info, warn};

use super::dial::{DialError, Dialer, Socket};

/// Longest wait for an answer; a `config.patch` takes some seconds on a busy instance.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// First and longest pause before the channel is opened again.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Requests that may wait for the channel.
const QUEUE: usize = 256;

/// A handle on the channel; clones share it.
#[derive(Clone, Debug)]
pub struct Admin {
    requests: mpsc::Sender<Request>,
    connected: watch::Receiver<bool>,
}

/// An assistant's message as the instance announced it.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunMessage {
    /// The provider's id of the answer.
    pub response_id: Arc<str>,
    /// The run that it was made for.
    pub run_id: Arc<str>,
    /// The session of the run.
    pub session_key: Arc<str>,
}

/// Why a request over the channel failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The channel is down, or the answer did not come.
    #[error("instance's administration channel is down")]
    Down,
    /// The instance refused.
    #[error("instance refused {method}: {message}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// The instance's words.
        message: String,
    },
}

#[derive(Debug)]
struct Request {
    method: &'static str,
    params: Value,
    answer: oneshot::Sender<Result<Value, AdminError>>,
}

/// A request that the instance has: what was asked, and who wants the answer.
type Waiting = (&'static str, oneshot::Sender<Result<Value, AdminError>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    id: Option<String>,
    #[serde(default)]
    ok: bool,
    event: Option<String>,
    #[serde(default)]
    payload: Value,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

// === impl Admin ===

impl Admin {
    /// Starts the channel. `on_message` is called for every answer of a model that an instance announces; it must not
    /// wait.
    pub fn start(
        dialer: Arc<Dialer>,
        on_message: impl Fn(RunMessage) + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (up, connected) = watch::channel(false);
        tokio::spawn(async move {
            let mut channel = Channel {
                dialer,
                queue,
                up,
                on_message,
            };
            stop.run_until_cancelled(channel.run()).await;
        });
        Self {
            requests,
            connected,
        }
    }

    /// Whether the channel is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Calls a method of the instance as its administrator.
    ///
    /// # Errors
    ///
    /// [`AdminError::Down`] at once when the channel is down, and when no answer comes in 30 s; what was asked may
    /// still happen then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future forgets the answer, not the request.
    pub async fn call(&self, method: &'static str, params: Value) -> Result<Value, AdminError> {
        if !self.is_connected() {
            return Err(AdminError::Down);
        }
        let (answer, answered) = oneshot::channel();
        self.requests
            .try_send(Request {
                method,
                params,
                answer,
            })
            .map_err(|_| AdminError::Down)?;
        match timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(result)) => result,
            _ => Err(AdminError::Down),
        }
    }
}

struct Channel<F> {
    dialer: Arc<Dialer>,
    queue: mpsc::Receiver<Request>,
    up: watch::Sender<bool>,
    on_message: F,
}

// === impl Channel ===

impl<F: Fn(RunMessage)> Channel<F> {
    async fn run(&mut self) {
        let mut pause = RECONNECT.0;
        loop {
            match self.dialer.connect_admin().await {
                Ok(socket) => {
                    info!(
                        instance = self.dialer.address(),
                        "administration channel open"
                    );
                    pause = RECONNECT.0;
                    let closed = self.serve(socket).await;
                    let _ = self.up.send(false);
                    // Whoever has queued a request in the meantime learns that at once.
                    while let Ok(request) = self.queue.try_recv() {
                        let _ = request.answer.send(Err(AdminError::Down));
                    }
                    warn!(instance = self.dialer.address(), reason = %closed, "administration channel closed");
                }
                Err(DialError::Starting { retry_after }) => pause = retry_after,
                Err(error) => {
                    warn!(instance = self.dialer.address(), %error, "administration channel cannot be opened");
                }
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(RECONNECT.1);
        }
    }

    /// Serves one connection until it ends, and says why.
    async fn serve(&mut self, mut socket: Socket) -> String {
        let mut waiting: HashMap<String, Waiting> = HashMap::new();
        let mut next_id: u64 = 0;
        let subscribe =
            r#"{"type":"req","id":"subscribe","method":"sessions.subscribe","params":{}}"#;
        if let Err(error) = socket.send(Message::text(subscribe)).await {
            return error.to_string();
        }
        let _ = self.up.send(true);
        loop {
            tokio::select! {
                message = socket.next() => {
                    let message = match message {
                        Some(Ok(message)) => message,
                        Some(Err(error)) => return error.to_string(),
                        None => return "end of stream".to_owned(),
                    };
                    if let Some((code, _)) = message.as_close() {
                        return format!("close {}", u16::from(code));
                    }
                    let Some(frame) = message.as_text().and_then(|text| serde_json::from_str::<Frame>(text).ok()) else {
                        continue;
                    };
                    if frame.event.as_deref() == Some("session.message") {
                        if let Some(message) = run_message(&frame.payload) {
                            (self.on_message)(message);
                        }
                    } else if let Some((method, answer)) = frame.id.and_then(|id| waiting.remove(&id)) {
                        let result = if frame.ok {
                            Ok(frame.payload)
                        } else {
                            let message = frame.error.map_or_else(String::new, |error| error.message);
                            Err(AdminError::Refused { method, message })
                        };
                        let _ = answer.send(result);
                    }
                }
                Some(request) = self.queue.recv() => {
                    next_id = next_id.wrapping_add(1);
                    let id = next_id.to_string();
                    let frame = serde_json::json!({
                        "type": "req", "id": id, "method": request.method, "params": request.params,
                    });
                    waiting.retain(|_, (_, answer)| !answer.is_closed());
                    waiting.insert(id, (request.method, request.answer));
                    if let Err(error) = socket.send(Message::text(frame.to_string())).await {
                        return error.to_string();
                    }
                }
            }
        }
    }
}

/// The join between a run and a model's answer, if the announced message is one.
fn run_message(payload: &Value) -> Option<RunMessage> {
    let message = payload.get("message")?;
    if message.get("role")?.as_str()? != "assistant" {
        return None;
    }
    Some(RunMessage {
        response_id: message.get("responseId")?.as_str()?.into(),
        run_id: message.get("__openclaw")?.get("runId")?.as_str()?.into(),
        session_key: payload.get("sessionKey")?.as_str()?.into(),
    })
}
