use bytes::Bytes;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use super::{ModelTap, notes::Notes, reading::Reading, stream::Events, whole::Whole};
use crate::Outcome;

/// A refusal is read up to this size; what it is called comes first.
const REFUSAL_LIMIT: usize = 64 << 10;

/// Follows the body of an answer and records the call: when closed, or at last when dropped.
#[derive(Debug)]
pub(crate) struct Metering {
    tap: Option<ModelTap>,
    reading: Reading,
    form: Form,
    notes: Notes,
}

#[derive(Debug)]
enum Form {
    Events(Events),
    Whole(Whole),
    /// Something encoded. Only its size is known.
    Opaque,
    /// The beginning of what a provider says that refuses.
    Refusal(Vec<u8>),
}

// === impl Metering ===

impl Metering {
    /// Follows an answer with this status and these headers.
    pub(crate) fn new(tap: ModelTap, status: StatusCode, headers: &HeaderMap) -> Self {
        let mut reading = Reading::new(tap.api());
        reading.failed = !status.is_success();
        let encoded = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity");
        let form = if reading.failed {
            Form::Refusal(Vec::new())
        } else if encoded {
            Form::Opaque
        } else if is_stream(&tap, headers) {
            Form::Events(Events::new(tap.hides_usage()))
        } else {
            Form::Whole(Whole::default())
        };
        Self {
            tap: Some(tap),
            notes: Notes::of_status(status),
            reading,
            form,
        }
    }

    /// Whether bytes are taken out of the body, whose length then is not known beforehand.
    pub(crate) const fn edits(&self) -> bool {
        matches!(&self.form, Form::Events(events) if events.hides())
    }

    /// Bytes held back until their event is complete.
    pub(crate) const fn held(&self) -> usize {
        match &self.form {
            Form::Events(events) => events.held(),
            _ => 0,
        }
    }

    /// Whether all that is to be known is known.
    pub(crate) const fn is_done(&self) -> bool {
        self.reading.done
    }

    /// Whether it is a refusal that goes by.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self.form, Form::Refusal(_))
    }

    /// From now on the call counts as aborted, whatever its end.
    #[cfg(feature = "tokio")]
    pub(crate) const fn leave(&mut self) {
        self.notes.left = true;
    }

    /// Whether the rest of the answer was read after its client had left.
    #[cfg(feature = "tokio")]
    pub(crate) const fn drained(&mut self, drained: bool) {
        self.notes.drained = Some(drained);
    }

    /// Takes a frame of the body; gives what goes on outward.
    pub(crate) fn data(&mut self, frame: Bytes) -> Bytes {
        match &mut self.form {
            Form::Events(events) => return events.push(frame, &mut self.reading),
            Form::Whole(whole) => whole.push(&frame, &mut self.reading),
            Form::Opaque => self.reading.text += frame.len() as u64,
            Form::Refusal(head) => {
                let room = REFUSAL_LIMIT - head.len();
                head.extend_from_slice(frame.get(..room).unwrap_or(&frame));
            }
        }
        frame
    }

    /// Takes the end of the body; gives what was held back.
    pub(crate) fn end(&mut self) -> Bytes {
        match &mut self.form {
            Form::Events(events) => return events.end(&mut self.reading),
            Form::Whole(whole) => {
                self.reading.answer(whole.bytes());
                *whole = Whole::default();
            }
            Form::Opaque => {}
            Form::Refusal(head) => self.reading.refusal(&std::mem::take(head)),
        }
        Bytes::new()
    }

    /// Records the call.
    pub(crate) fn close(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        let Some(tap) = self.tap.take() else { return };
        // What arrived last may tell something though it was cut off.
        self.end();
        let outcome = match outcome {
            _ if self.notes.left => Outcome::Aborted,
            _ if self.reading.failed => Outcome::Failed,
            // Many clients hang up at the last event and do not wait for the end of the body.
            Outcome::Aborted if self.reading.done => Outcome::Complete,
            outcome => outcome,
        };
        self.notes.left = outcome == Outcome::Aborted;
        let reading = &mut self.reading;
        self.notes.error = reading.error.take();
        let reading = std::mem::replace(reading, Reading::new(tap.api()));
        tap.close(outcome, reading, &self.notes);
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        self.record(Outcome::Aborted);
    }
}

fn is_stream(tap: &ModelTap, headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .map_or(&[][..], |kind| kind.as_bytes());
    let is = |name: &[u8]| {
        kind.get(..name.len())
            .is_some_and(|kind| kind.eq_ignore_ascii_case(name))
    };
    // A stream that was called for need not be labelled, or not as what it is.
    is(b"text/event-stream") || tap.streams() && !is(b"application/json")
}
