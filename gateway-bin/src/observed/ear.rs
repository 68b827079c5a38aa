use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::message::Message;

/// Messages that may wait; what does not fit is read again from the instance.
const QUEUE: usize = 4096;

/// What hears the messages of an instance.
#[derive(Clone)]
pub struct Ear {
    queue: mpsc::Sender<Message>,
    missed: Arc<AtomicBool>,
}

/// What is heard of an instance, for the [`Meter`].
pub struct Heard {
    pub(super) queue: mpsc::Receiver<Message>,
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
    /// Hears what the instance announces by `session.message`. Never waits.
    pub fn hear(&self, payload: &RawValue) {
        let Some(message) = Message::announced(payload) else {
            return;
        };
        if self.queue.try_send(message).is_err() {
            self.missed.store(true, Ordering::Release);
        }
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
