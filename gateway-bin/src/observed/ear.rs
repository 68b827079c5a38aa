use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::message::Message;

/// Messages that may wait; what does not fit is read again from the instance.
const QUEUE: usize = 4096;

/// What an instance announces.
pub(super) enum News {
    /// A model's answer.
    Answer(Box<Message>),
    /// That something was written which nobody is shown; it may be a model's answer.
    Hidden(Hidden),
}

/// A message that nobody is shown.
pub(super) struct Hidden {
    pub(super) session_key: Arc<str>,
    /// Its number in the session.
    pub(super) number: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    session_key: Arc<str>,
    phase: String,
    message_seq: u64,
}

/// What hears the messages of an instance.
#[derive(Clone)]
pub struct Ear {
    queue: mpsc::Sender<News>,
    missed: Arc<AtomicBool>,
}

/// What is heard of an instance, for the [`Meter`](super::Meter).
pub struct Heard {
    pub(super) queue: mpsc::Receiver<News>,
    pub(super) missed: Arc<AtomicBool>,
}

/// An ear, and what it hears.
#[must_use]
pub fn channel() -> (Ear, Heard) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let missed = Arc::new(AtomicBool::new(false));
    let heard = Heard {
        queue,
        missed: Arc::clone(&missed),
    };
    (
        Ear {
            queue: sender,
            missed,
        },
        heard,
    )
}

// === impl Ear ===

impl Ear {
    /// Hears an event of the instance, by its name and payload. Never waits.
    pub fn hear(&self, event: &str, payload: &RawValue) {
        let news = match event {
            "session.message" => Message::announced(payload).map(Box::new).map(News::Answer),
            "sessions.changed" => Hidden::read(payload).map(News::Hidden),
            _ => None,
        };
        let Some(news) = news else {
            return;
        };
        if self.queue.try_send(news).is_err() {
            self.missed.store(true, Ordering::Release);
        }
    }
}

// === impl Hidden ===

impl Hidden {
    /// In place of an answer of nothing but `NO_REPLY`, OpenClaw announces only that the session has changed by a message.
    fn read(payload: &RawValue) -> Option<Self> {
        let changed: Changed = serde_json::from_str(payload.get()).ok()?;
        (changed.phase == "message").then_some(Self {
            session_key: changed.session_key,
            number: changed.message_seq,
        })
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear").finish_non_exhaustive()
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heard").finish_non_exhaustive()
    }
}
