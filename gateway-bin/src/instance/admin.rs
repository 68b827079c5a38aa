//! The administration channel of an instance: one connection by password, opened again when it ends. It also hears of
//! every message of every session, which is how model calls are joined to the runs they were made for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_websockets::Message;
use tracing::{info, warn};

use super::dial::{DialError, Dialer, Socket};

/// Longest wait for an answer; a `config.patch` takes some seconds on a busy instance.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// First and longest pause before the channel is opened again.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Bounds on how long the instance may tell us to wait.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// How the instance begins its refusal of a configuration that it will never take.
const INVALID: &str = "invalid config";

/// An instance that has said nothing for so long is gone: it ticks every 30 s.
const SILENCE: Duration = Duration::from_secs(75);

/// Longest wait for a request to be written.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that may wait for the channel.
const QUEUE: usize = 256;

/// A handle on the channel; clones share it.
#[derive(Clone, Debug)]
pub struct Admin {
    requests: mpsc::Sender<Request>,
    connected: watch::Receiver<bool>,
    openings: Arc<AtomicU64>,
    changes: Arc<AtomicU64>,
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
    /// The instance will never do this.
    #[error("instance will not take it: {message}")]
    Invalid {
        /// The instance's words.
        message: String,
    },
    /// The instance refused; it may do it another time.
    #[error("instance refused {method}: {message}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// The instance's words.
        message: String,
        /// When to ask again, if the instance says so.
        retry_after: Option<Duration>,
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
    // Not built before it is known that somebody wants it: an event's may be large, and strange.
    payload: Option<Box<RawValue>>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Why<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    message: String,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionMessage {
    session_key: Arc<str>,
    message: AssistantMessage,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssistantMessage {
    response_id: Arc<str>,
    #[serde(rename = "__openclaw")]
    openclaw: OfRun,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfRun {
    run_id: Arc<str>,
}

// === impl Admin ===

impl Admin {
    /// Starts the channel. `on_event` is called with the name and the payload of every `session.message` and
    /// `sessions.changed` of the instance; it must not wait.
    pub fn start(
        dialer: Arc<Dialer>,
        on_event: impl Fn(&str, &RawValue) + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (up, connected) = watch::channel(false);
        let openings = Arc::new(AtomicU64::new(0));
        let changes = Arc::new(AtomicU64::new(0));
        let mut channel = Channel {
            dialer,
            queue,
            up,
            openings: Arc::clone(&openings),
            changes: Arc::clone(&changes),
            on_event,
        };
        tokio::spawn(async move {
            stop.run_until_cancelled(channel.run()).await;
        });
        Self {
            requests,
            connected,
            openings,
            changes,
        }
    }

    /// Whether the channel is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Waits until the channel is open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does nothing.
    pub async fn connected(&self) {
        let mut connected = self.connected.clone();
        if connected.wait_for(|open| *open).await.is_err() {
            // The channel was stopped; it will never be open.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the channel is open, from now on.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// How often the channel was opened: with each time the instance may not be what it was.
    #[must_use]
    pub fn openings(&self) -> u64 {
        self.openings.load(Ordering::Acquire)
    }

    /// How often the channel was opened, or the instance announced that its configuration or somebody's role is another:
    /// with each time people's agents may not be what they were.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Waits until the channel is open and was opened more often than that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does nothing.
    pub async fn opened_after(&self, openings: u64) {
        let mut connected = self.connected.clone();
        loop {
            if *connected.borrow_and_update() && self.openings() > openings {
                return;
            }
            if connected.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
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

#[cfg(test)]
impl Admin {
    /// A channel that is open, behind which `answer` is the instance.
    pub(crate) fn answered_by(
        mut answer: impl FnMut(&'static str, &Value) -> Result<Value, AdminError> + Send + 'static,
    ) -> Self {
        let (requests, mut queue) = mpsc::channel::<Request>(QUEUE);
        let (up, connected) = watch::channel(true);
        tokio::spawn(async move {
            let _up = up;
            while let Some(request) = queue.recv().await {
                let answered = answer(request.method, &request.params);
                let _ = request.answer.send(answered);
            }
        });
        Self {
            requests,
            connected,
            openings: Arc::default(),
            changes: Arc::default(),
        }
    }
}

struct Channel<F> {
    dialer: Arc<Dialer>,
    queue: mpsc::Receiver<Request>,
    up: watch::Sender<bool>,
    openings: Arc<AtomicU64>,
    changes: Arc<AtomicU64>,
    on_event: F,
}

// === impl Channel ===

impl<F: Fn(&str, &RawValue)> Channel<F> {
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
                Err(DialError::Starting { retry_after }) => {
                    pause = retry_after.clamp(RETRY.0, RETRY.1);
                }
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
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.openings.fetch_add(1, Ordering::AcqRel);
        let _ = self.up.send(true);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = timeout_at(heard + SILENCE, socket.next()) => {
                    let message = match message {
                        Ok(Some(Ok(message))) => message,
                        Ok(Some(Err(error))) => return error.to_string(),
                        Ok(None) => return "end of stream".to_owned(),
                        Err(_) => return "no sign of life".to_owned(),
                    };
                    heard = Instant::now();
                    if let Some((code, _)) = message.as_close() {
                        return format!("close {}", u16::from(code));
                    }
                    let Some(frame) = message.as_text().and_then(|text| serde_json::from_str::<Frame>(text).ok()) else {
                        continue;
                    };
                    if frame.is_change() {
                        self.changes.fetch_add(1, Ordering::AcqRel);
                    }
                    if let Some(event @ ("session.message" | "sessions.changed")) = frame.event.as_deref() {
                        if let Some(payload) = frame.payload.as_deref() {
                            (self.on_event)(event, payload);
                        }
                    } else if let Some((method, answer)) = frame.id.and_then(|id| waiting.remove(&id)) {
                        let result = match (frame.ok, frame.error) {
                            (true, _) => frame
                                .payload
                                .map_or(Ok(Value::Null), |payload| serde_json::from_str(payload.get()))
                                .map_err(|error| AdminError::Invalid { message: error.to_string() }),
                            (false, Some(error)) => Err(error.of(method)),
                            (false, None) => Err(AdminError::Invalid { message: "no reason given".to_owned() }),
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
                    match timeout(SEND_TIMEOUT, socket.send(Message::text(frame.to_string()))).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return error.to_string(),
                        Err(_) => return "it does not read".to_owned(),
                    }
                }
            }
        }
    }
}

// === impl Frame ===

impl Frame {
    /// Whether it announces that the configuration, or somebody's role, is another.
    fn is_change(&self) -> bool {
        match self.event.as_deref() {
            Some("config.changed") => true,
            Some("sessions.changed") => {
                let payload = self.payload.as_deref().map(RawValue::get);
                let why = payload.and_then(|payload| serde_json::from_str::<Why<'_>>(payload).ok());
                why.is_some_and(|why| why.reason == "profile-identity")
            }
            _ => false,
        }
    }
}

// === impl RunMessage ===

impl RunMessage {
    /// The join between a run and a model's answer, if the announced message is one: only those have a response's id.
    #[must_use]
    pub fn read(payload: &RawValue) -> Option<Self> {
        let SessionMessage {
            session_key,
            message,
        } = serde_json::from_str(payload.get()).ok()?;
        Some(Self {
            response_id: message.response_id,
            run_id: message.openclaw.run_id,
            session_key,
        })
    }
}

// === impl Refusal ===

impl Refusal {
    fn of(self, method: &'static str) -> AdminError {
        if self.message.starts_with(INVALID) {
            return AdminError::Invalid {
                message: self.message,
            };
        }
        let retry_after = self
            .retry_after_ms
            .map(|ms| Duration::from_millis(ms).clamp(RETRY.0, RETRY.1));
        AdminError::Refused {
            method,
            message: self.message,
            retry_after,
        }
    }
}
