//! An answer in server-sent events, and what has been billed once each of them is out.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::time::sleep;

use super::{
    call::Entry,
    directive::{Plan, Reply},
};

/// The events of one answer, in order.
#[derive(Debug, Default)]
pub(super) struct Events(VecDeque<Event>);

/// One event, and the output tokens that are billed once it is out.
#[derive(Debug)]
struct Event {
    text: Bytes,
    billed: u64,
}

/// What a model generates between two events, and the output tokens that are billed up to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    pub(super) billed: u64,
}

// === impl Events ===

impl Events {
    /// Adds an event without a name, as chat completions have them.
    pub(super) fn push(&mut self, data: impl std::fmt::Display, billed: u64) {
        let text = Bytes::from(format!("data: {data}\n\n"));
        self.0.push_back(Event { text, billed });
    }

    /// Adds an event with a name.
    pub(super) fn push_named(&mut self, name: &str, data: impl std::fmt::Display, billed: u64) {
        let text = Bytes::from(format!("event: {name}\ndata: {data}\n\n"));
        self.0.push_back(Event { text, billed });
    }

    /// Hands them over at the plan's pace.
    ///
    /// The entry follows what has been handed over: a client that goes away drops the stream, and what is written down
    /// then is what it is billed.
    pub(super) fn stream(
        self,
        plan: &Plan,
        entry: Entry,
    ) -> impl Stream<Item = Bytes> + Send + use<> {
        let delay = Duration::from_millis(plan.chunk_delay);
        let reasoning = plan.reasoning;
        let total = self.0.len();
        stream::unfold((self.0, entry), move |(mut events, entry)| async move {
            let is_first = events.len() == total;
            let event = events.pop_front()?;
            if !is_first && !delay.is_zero() {
                sleep(delay).await;
            }
            entry.update(|call| {
                call.completion_tokens = event.billed;
                call.reasoning_tokens = reasoning.min(event.billed);
                call.finished = events.is_empty();
            });
            Some((event.text, (events, entry)))
        })
    }
}

/// The words of a reply, or the arguments of a tool's call at one go.
pub(super) fn pieces(plan: &Plan) -> Vec<Piece<'_>> {
    match &plan.reply {
        Reply::Text(text) => {
            let words: Vec<_> = text.split_inclusive(' ').collect();
            let count = words.len() as u64;
            let pieces = words.into_iter().zip(1_u64..);
            let pieces = pieces.map(|(text, n)| Piece {
                text,
                billed: plan.output.saturating_mul(n) / count,
            });
            pieces.collect()
        }
        Reply::Tool { arguments, .. } => vec![Piece {
            text: arguments,
            billed: plan.output,
        }],
    }
}
