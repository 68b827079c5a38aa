use bytes::Bytes;
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use super::{ModelTap, events::EventEnds, reading::Reading};
use crate::Outcome;

/// A whole answer is kept up to this size to be read at its end; beyond, tokens are estimated.
const ANSWER_LIMIT: usize = 16 << 20;
/// An event larger than this goes by unread.
const EVENT_LIMIT: usize = 1 << 20;

/// Follows the body of an answer and records the call: when closed, or at last when dropped.
#[derive(Debug)]
pub(crate) struct Metering {
    tap: Option<ModelTap>,
    reading: Reading,
    form: Form,
    left: bool,
}

#[derive(Debug)]
enum Form {
    Events(Events),
    Whole(Whole),
    /// Something encoded. Only its size is known.
    Opaque,
}

/// A stream of events, each read when it is complete.
#[derive(Debug)]
struct Events {
    ends: EventEnds,
    /// The beginning of an event that is not complete. Not yet forwarded if `hide`.
    carry: Vec<u8>,
    /// The current event was found too large and goes by.
    skipping: bool,
    /// Whether the event that only tells usage is taken out.
    hide: bool,
    /// The last complete event was taken out.
    hid_last: bool,
}

/// A whole answer. One frame is kept as it is, several are copied together.
#[derive(Debug, Default)]
struct Whole {
    first: Bytes,
    more: Vec<u8>,
    overflowed: bool,
}

// === impl Metering ===

impl Metering {
    /// Follows an answer with these headers.
    pub(crate) fn new(tap: ModelTap, headers: &HeaderMap) -> Self {
        let encoded = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity");
        let kind = headers
            .get(CONTENT_TYPE)
            .map_or(&[][..], |kind| kind.as_bytes());
        let is = |name: &[u8]| {
            kind.get(..name.len())
                .is_some_and(|kind| kind.eq_ignore_ascii_case(name))
        };
        // A stream that was called for need not be labelled, or not as what it is.
        let streams = is(b"text/event-stream") || tap.streams() && !is(b"application/json");
        let form = if encoded {
            Form::Opaque
        } else if streams {
            Form::Events(Events::new(tap.hides_usage()))
        } else {
            Form::Whole(Whole::default())
        };
        Self {
            tap: Some(tap),
            reading: Reading::default(),
            form,
            left: false,
        }
    }

    /// Whether bytes are taken out of the body, whose length then is not known beforehand.
    pub(crate) const fn edits(&self) -> bool {
        matches!(&self.form, Form::Events(events) if events.hide)
    }

    /// Bytes held back until their event is complete.
    pub(crate) fn held(&self) -> usize {
        match &self.form {
            Form::Events(events) if events.hide => events.carry.len(),
            _ => 0,
        }
    }

    /// Whether all that is to be known is known.
    pub(crate) const fn is_done(&self) -> bool {
        self.reading.done
    }

    /// From now on the call counts as aborted, whatever its end.
    #[cfg(feature = "tokio")]
    pub(crate) const fn leave(&mut self) {
        self.left = true;
    }

    /// Takes a frame of the body; gives what goes on outward.
    pub(crate) fn data(&mut self, frame: Bytes) -> Bytes {
        match &mut self.form {
            Form::Events(events) => return events.push(frame, &mut self.reading),
            Form::Whole(whole) => whole.push(&frame, &mut self.reading),
            Form::Opaque => self.reading.text += frame.len() as u64,
        }
        frame
    }

    /// Takes the end of the body; gives what was held back.
    pub(crate) fn end(&mut self) -> Bytes {
        match &mut self.form {
            Form::Events(events) => events.end(&mut self.reading),
            Form::Whole(whole) => {
                self.reading.answer(whole.bytes());
                *whole = Whole::default();
                Bytes::new()
            }
            Form::Opaque => Bytes::new(),
        }
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
            _ if self.left => Outcome::Aborted,
            _ if self.reading.failed => Outcome::Failed,
            // Many clients hang up at `[DONE]` and do not wait for the end of the body.
            Outcome::Aborted if self.reading.done => Outcome::Complete,
            outcome => outcome,
        };
        tap.close(outcome, std::mem::take(&mut self.reading));
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        self.record(Outcome::Aborted);
    }
}

// === impl Events ===

impl Events {
    const fn new(hide: bool) -> Self {
        Self {
            ends: EventEnds::new(),
            carry: Vec::new(),
            skipping: false,
            hide,
            hid_last: false,
        }
    }

    fn push(&mut self, frame: Bytes, reading: &mut Reading) -> Bytes {
        // What goes outward is the frame up to `keep`, unless it had to be put together in `copied`.
        let (mut at, mut keep) = (0, 0);
        let mut copied: Option<Vec<u8>> = None;
        if self.ends.owed_lf(&frame) {
            at = 1;
            if self.hid_last {
                copied = Some(Vec::new());
            } else {
                keep = 1;
            }
        }
        while let Some(rest) = frame.get(at..)
            && let Some(len) = self.ends.next_end(rest)
        {
            let event = rest.get(..len).unwrap_or_default();
            self.hid_last = self.read(event, reading) && self.hide;
            if self.hid_last {
                copied.get_or_insert_with(|| frame.slice(..keep).to_vec());
            } else if self.hide && !self.carry.is_empty() {
                let out = copied.get_or_insert_with(|| frame.slice(..keep).to_vec());
                out.extend_from_slice(&self.carry);
                out.extend_from_slice(event);
            } else if let Some(out) = &mut copied {
                out.extend_from_slice(event);
            }
            self.carry.clear();
            at += len;
            keep = at;
        }
        let tail = frame.get(at..).unwrap_or_default();
        let released = self.hold(tail, reading);
        if !self.hide {
            return frame;
        }
        if let Some(released) = released {
            let out = copied.get_or_insert_with(|| frame.slice(..keep).to_vec());
            out.extend_from_slice(&released);
        }
        copied.map_or_else(|| frame.slice(..keep), Bytes::from)
    }

    /// Reads the event that ends with these bytes; true if it only tells usage. Its beginning stays in `carry`.
    fn read(&mut self, end: &[u8], reading: &mut Reading) -> bool {
        if std::mem::take(&mut self.skipping) {
            reading.text += end.len() as u64;
            return false;
        }
        if self.carry.is_empty() {
            return reading.event(end);
        }
        let begun = self.carry.len();
        self.carry.extend_from_slice(end);
        let lone = reading.event(&self.carry);
        self.carry.truncate(begun);
        lone
    }

    /// Keeps the beginning of an event. Gives it back to be forwarded if it has become too large.
    fn hold(&mut self, tail: &[u8], reading: &mut Reading) -> Option<Vec<u8>> {
        if !self.skipping && self.carry.len() + tail.len() <= EVENT_LIMIT {
            self.carry.extend_from_slice(tail);
            return None;
        }
        self.skipping = true;
        let mut released = std::mem::take(&mut self.carry);
        released.extend_from_slice(tail);
        reading.text += released.len() as u64;
        Some(released)
    }

    fn end(&mut self, reading: &mut Reading) -> Bytes {
        let carry = std::mem::take(&mut self.carry);
        // Lenient where the standard drops an event without its empty line: the provider may have ended right there.
        let lone = reading.event(&carry);
        if self.hide && !lone {
            Bytes::from(carry)
        } else {
            Bytes::new()
        }
    }
}

// === impl Whole ===

impl Whole {
    fn push(&mut self, frame: &Bytes, reading: &mut Reading) {
        if self.overflowed {
            reading.text += frame.len() as u64;
        } else if self.bytes().len() + frame.len() > ANSWER_LIMIT {
            reading.text += (self.bytes().len() + frame.len()) as u64;
            *self = Self {
                overflowed: true,
                ..Self::default()
            };
        } else if self.bytes().is_empty() {
            self.first = frame.clone();
        } else {
            self.more
                .extend_from_slice(&std::mem::take(&mut self.first));
            self.more.extend_from_slice(frame);
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.more.is_empty() {
            &self.first
        } else {
            &self.more
        }
    }
}
