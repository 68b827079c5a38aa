use std::{fmt, sync::Arc};

use super::{Attribution, notes::Notes, reading::Reading};
use crate::{
    Begun, Clock, NanoUsd, Operation, Outcome, Place, Prices, Sink, Source, TokenCounts,
    UsageRecord,
    llm::{Api, ModelCall, estimate},
};

/// What a meter's calls are recorded with.
#[derive(Clone)]
pub(super) struct Books {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) prices: Prices,
    pub(super) clock: Arc<dyn Clock>,
}

/// What is known of a call whose end nobody has seen.
const LOST: &str = r#"{"lost":true}"#;

/// Follows one call of a [`ModelMeter`](super::ModelMeter) and records it once.
///
/// Dropped before there is an answer, it records an aborted call that took its estimated prompt.
pub struct ModelTap {
    entry: Option<Entry>,
}

struct Entry {
    place: Place,
    record: UsageRecord,
    books: Arc<Books>,
    api: Api,
    estimated_input: u64,
    streams: bool,
    hides_usage: bool,
}

// === impl ModelTap ===

impl ModelTap {
    pub(super) fn open(
        place: Place,
        books: Arc<Books>,
        attribution: Attribution,
        api: Api,
        call: Option<&ModelCall>,
    ) -> Self {
        let now = books.clock.now();
        let mut record = UsageRecord::at(now, attribution.subject, Operation::ModelCall);
        record.admitted_at = attribution.admitted_at.unwrap_or(now);
        record.provider = attribution.provider;
        record.session_key = attribution.session_key;
        record.run_id = attribution.run_id;
        record.settle_ref = attribution.settle_ref;
        record.requested_model = call.map(|call| Arc::clone(&call.requested_model));
        if let Some(call) = call {
            record.id = call.take_id();
            record.idempotency_key.clone_from(&call.idempotency_key);
        }
        Self {
            entry: Some(Entry {
                place,
                record,
                books,
                api,
                estimated_input: call.map_or(0, |call| call.estimated_input),
                streams: call.is_some_and(|call| call.stream),
                hides_usage: call.is_some_and(|call| call.usage_injected),
            }),
        }
    }

    /// What the call was of.
    pub(super) fn api(&self) -> Api {
        let entry = self.entry.as_ref();
        entry.map_or(Api::ChatCompletions, |entry| entry.api)
    }

    /// Whether the call was for a stream.
    pub(super) fn streams(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.streams)
    }

    /// Whether the usage of a stream is not for the client.
    pub(super) fn hides_usage(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.hides_usage)
    }

    /// Keeps the call as it stands before there is an answer.
    pub(super) fn begin(&mut self) -> Begun {
        let Some(entry) = &mut self.entry else {
            return Begun::ready(Ok(()));
        };
        // It is seen only if nobody is there to say how the call ended.
        entry.record.metadata = Some(LOST.into());
        entry.fill(Outcome::Aborted, Reading::new(entry.api));
        let kept = entry.place.begin(&entry.record);
        entry.record.tokens = TokenCounts::default();
        entry.record.cost = None;
        entry.record.rate = None;
        entry.record.metadata = None;
        entry.record.source = Source::Exact;
        kept
    }

    /// Records a call that got no answer from a model, and costs nothing.
    pub(super) fn fail(self) {
        self.end(Outcome::Failed);
    }

    /// Records a call that never went inward.
    pub(super) fn withdraw(self) {
        self.end(Outcome::Refused);
    }

    fn end(mut self, outcome: Outcome) {
        let Some(mut entry) = self.entry.take() else {
            return;
        };
        entry.record.outcome = outcome;
        entry.record.cost = Some(NanoUsd::ZERO);
        entry.write();
    }

    /// Records a call whose answer told this much.
    pub(super) fn close(mut self, outcome: Outcome, reading: Reading, notes: &Notes) {
        let Some(mut entry) = self.entry.take() else {
            return;
        };
        entry.record.metadata = notes.to_json();
        if outcome == Outcome::Failed && reading.is_free() {
            self.entry = Some(entry);
            return self.fail();
        }
        entry.fill(outcome, reading);
        entry.write();
    }
}

impl Drop for ModelTap {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.record.metadata = Notes::left().to_json();
            entry.fill(Outcome::Aborted, Reading::new(entry.api));
            entry.write();
        }
    }
}

impl fmt::Debug for ModelTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelTap").finish_non_exhaustive()
    }
}

// === impl Entry ===

impl Entry {
    fn fill(&mut self, outcome: Outcome, reading: Reading) {
        let Self { record, books, .. } = self;
        let reported = reading.usage.unwrap_or_default();
        let told = reported.tokens();
        let cached = told.cache_read.unwrap_or(0) + told.cache_write.unwrap_or(0);
        record.tokens = told;
        record.tokens.input = told
            .input
            .or_else(|| Some(self.estimated_input.saturating_sub(cached)));
        record.tokens.output = told.output.or_else(|| {
            // What was thought does not show in the text.
            let thought = told.reasoning.unwrap_or(0);
            match self.api {
                Api::Embeddings => Some(0),
                _ => Some(estimate::tokens(reading.text) + thought),
            }
        });
        record.source = if reported.is_invalid() {
            Source::Invalid
        } else if told.input.is_some() && told.output.is_some() {
            Source::Exact
        } else {
            Source::Estimated
        };
        record.outcome = outcome;
        record.model = reading.model;
        record.response_id = reading.id;
        record.price(&books.prices.load());
    }

    fn write(mut self) {
        self.record.ended_at = self.books.clock.now();
        self.place.record(self.record);
    }
}
