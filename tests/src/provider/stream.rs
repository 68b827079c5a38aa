//! An answer in server-sent events, and what has been billed once each of them is out.

use std::{collections::VecDeque, io, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::ready, stream};
use tokio::time::sleep;

use super::{
    call::Entry,
    directive::{Break, Plan, Reply},
};

/// Time enough for what was said before a connection breaks off to have gone out.
const BEFORE_CUT: Duration = Duration::from_millis(50);

/// The events of one answer, in order.
#[derive(Debug, Default)]
pub(super) struct Events {
    events: VecDeque<Event>,
    /// What becomes of the answer after them.
    breaks: Option<Break>,
}

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
        self.events.push_back(Event { text, billed });
    }

    /// Adds an event with a name.
    pub(super) fn push_named(&mut self, name: &str, data: impl std::fmt::Display, billed: u64) {
        let text = Bytes::from(format!("event: {name}\ndata: {data}\n\n"));
        self.events.push_back(Event { text, billed });
    }

    /// Leaves out what comes after the first `count` events. Nothing more is billed.
    pub(super) fn truncate(&mut self, count: u64, breaks: Break) {
        self.events
            .truncate(usize::try_from(count).unwrap_or(usize::MAX));
        self.breaks = Some(breaks);
    }

    /// What is billed once all of them are out.
    pub(super) fn billed(&self) -> u64 {
        self.events.back().map_or(0, |last| last.billed)
    }

    /// Hands them over at the plan's pace.
    ///
    /// The entry follows what has been handed over: a client that goes away drops the stream, and what is written down
    /// then is what it is billed.
    pub(super) fn stream(
        self,
        plan: &Plan,
        entry: Entry,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let delay = Duration::from_millis(plan.chunk_delay);
        let reasoning = plan.reasoning;
        let breaks = self.breaks;
        let total = self.events.len();
        let cut = stream::once(async move {
            if breaks != Some(Break::Cut) {
                return None;
            }
            sleep(BEFORE_CUT).await;
            Some(Err(io::ErrorKind::ConnectionAborted.into()))
        });
        let events = stream::unfold(
            (self.events, entry),
            move |(mut events, entry)| async move {
                let is_first = events.len() == total;
                let event = events.pop_front()?;
                if !is_first && !delay.is_zero() {
                    sleep(delay).await;
                }
                entry.update(|call| {
                    call.completion_tokens = event.billed;
                    call.reasoning_tokens = reasoning.min(event.billed);
                    call.finished = events.is_empty() && breaks.is_none();
                });
                Some((Ok(event.text), (events, entry)))
            },
        );
        events.chain(cut.filter_map(ready))
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
