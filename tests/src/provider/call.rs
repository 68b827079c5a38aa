//! What the provider writes down.

use std::{
    iter::Sum,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::Api;

/// One request to the provider, and what it would bill for it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ModelCall {
    /// The response's id.
    pub id: String,
    /// When it arrived, in milliseconds since 1970.
    pub at: u64,
    /// The API it came by.
    pub api: Api,
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
    /// How much of the input was put into the cache.
    pub cache_write_tokens: u64,
    /// How much of the output was thinking.
    pub reasoning_tokens: u64,
    /// The API key as it was received, in the header where its API wants it. The keys of a test are no secrets.
    pub key: String,
    /// Whether the whole answer was produced. False for refused calls, for those that broke off,
    /// and for those whose client went away.
    pub finished: bool,
    /// The last user message, without what OpenClaw adds in blocks of its own.
    pub last_user: String,
    /// What the last tool of the turn answered.
    pub tool_result: Option<String>,
    /// `x-client-request-id`: the caller's own name for the request.
    pub client_request_id: Option<String>,
    /// `traceparent`: of what trace the request is part.
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// Billed tokens by class. No class is part of another, but `reasoning` of `output`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Tokens {
    /// Input that has nothing to do with a cache.
    pub input: u64,
    /// Input that came from the cache.
    pub cache_read: u64,
    /// Input that was put into the cache.
    pub cache_write: u64,
    /// Output.
    pub output: u64,
    /// How much of the output was thinking.
    pub reasoning: u64,
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

// === impl ModelCall ===

impl ModelCall {
    /// What it is billed.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        let cached = self.cached_tokens.saturating_add(self.cache_write_tokens);
        Tokens {
            input: self.prompt_tokens.saturating_sub(cached),
            cache_read: self.cached_tokens,
            cache_write: self.cache_write_tokens,
            output: self.completion_tokens,
            reasoning: self.reasoning_tokens,
        }
    }
}

// === impl Tokens ===

impl Tokens {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.input, self.cache_read, self.cache_write, self.output]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, tokens| Self {
            input: sum.input.saturating_add(tokens.input),
            cache_read: sum.cache_read.saturating_add(tokens.cache_read),
            cache_write: sum.cache_write.saturating_add(tokens.cache_write),
            output: sum.output.saturating_add(tokens.output),
            reasoning: sum.reasoning.saturating_add(tokens.reasoning),
        })
    }
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

    /// How many calls with this message have had that status.
    pub(super) fn count(&self, last_user: &str, status: u16) -> u64 {
        let calls = self.lock();
        let calls = calls.iter().filter(|call| call.last_user == last_user);
        calls.filter(|call| call.status == status).count() as u64
    }

    /// How many calls with this message there have been.
    pub(super) fn begun(&self, last_user: &str) -> u64 {
        let calls = self.lock();
        let calls = calls.iter().filter(|call| call.last_user == last_user);
        calls.count() as u64
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
