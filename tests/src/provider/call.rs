//! What the provider writes down.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// One request to the provider, and what it would bill for it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ModelCall {
    /// The response's id.
    pub id: String,
    /// When it arrived, in milliseconds since 1970.
    pub at: u64,
    /// The model that was asked for.
    pub model: String,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// The status it was answered with.
    pub status: u16,
    /// Billed input, cached tokens included.
    pub prompt_tokens: u64,
    /// Billed output: of a stream whose client went away, what had been sent until then.
    pub completion_tokens: u64,
    /// How much of the input came from the cache.
    pub cached_tokens: u64,
    /// The API key as it was received. The keys of a test are no secrets.
    pub key: String,
    /// Whether the whole answer was produced. False for refused calls and for those whose client
    /// went away.
    pub finished: bool,
    /// The last user message, without what OpenClaw adds in blocks of its own.
    pub last_user: String,
    /// What the last tool of the turn answered.
    pub tool_result: Option<String>,
    /// `x-client-request-id`: the caller's own name for the request.
    pub client_request_id: Option<String>,
}

/// All calls of one provider.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    calls: Arc<Mutex<Vec<ModelCall>>>,
}

/// A call that is being answered.
#[derive(Debug)]
pub(super) struct Entry {
    record: Record,
    id: String,
}

// === impl Record ===

impl Record {
    pub(super) fn add(&self, call: ModelCall) -> Entry {
        let id = call.id.clone();
        self.lock().push(call);
        Entry {
            record: self.clone(),
            id,
        }
    }

    pub(super) fn all(&self) -> Vec<ModelCall> {
        self.lock().clone()
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ModelCall>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Entry ===

impl Entry {
    /// Changes what is written down, unless it has been forgotten meanwhile.
    pub(super) fn update(&self, change: impl FnOnce(&mut ModelCall)) {
        if let Some(call) = self
            .record
            .lock()
            .iter_mut()
            .rev()
            .find(|call| call.id == self.id)
        {
            change(call);
        }
    }
}
