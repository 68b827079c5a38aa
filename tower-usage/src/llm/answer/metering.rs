use bytes::Bytes;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};

use super::{
    ModelTap, Refused,
    decode::{Decoder, Went},
    notes::Notes,
    reading::Reading,
    stream::Events,
    whole::Whole,
};
use crate::Outcome;

/// A refusal is read up to this size; what it is called comes first.
const REFUSAL_LIMIT: usize = 64 << 10;

/// What a client is told in place of the rest of a stream of which something was to be taken out, and which cannot be
/// decoded. In OpenAI's form: nothing is taken out of the streams of others.
const UNDECODABLE: &[u8] = b"\n\ndata: {\"error\":{\"message\":\"The provider's answer cannot be decoded.\",\"type\":\"server_error\",\"param\":null,\"code\":\"undecodable_answer\"}}\n\n";

/// Follows the body of an answer and records the call: when closed, or at last when dropped.
#[derive(Debug)]
pub(crate) struct Metering {
    tap: Option<ModelTap>,
    reading: Reading,
    form: Form,
    /// What is read is what this makes of the body.
    decoder: Option<Box<Decoder>>,
    /// Bytes that went by as they came.
    came: u64,
    /// Nothing more goes outward.
    broken: bool,
    notes: Notes,
}

#[derive(Debug)]
enum Form {
    Events(Events),
    Whole(Whole),
    /// Something encoded. Only its size is known.
    Opaque,
    /// What a provider says that refuses.
    Refusal(Refusal),
}

/// The beginning of a refusal.
#[derive(Debug, Default)]
struct Refusal {
    head: Vec<u8>,
    /// What comes now cannot be read.
    closed: bool,
}

// === impl Metering ===

impl Metering {
    /// Follows an answer with this status and these headers.
    pub(crate) fn new(
        tap: ModelTap,
        status: StatusCode,
        headers: &HeaderMap,
        refused: Option<Refused>,
    ) -> Self {
        let mut reading = Reading::new(tap.api());
        reading.failed = !status.is_success();
        let encoded = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity");
        let decoder = if encoded { Decoder::new(headers) } else { None };
        let is_opaque = encoded && decoder.is_none();
        let form = if reading.failed {
            Form::Refusal(Refusal {
                closed: is_opaque,
                ..Refusal::default()
            })
        } else if is_opaque {
            Form::Opaque
        } else if is_stream(&tap, headers) {
            Form::Events(Events::new(tap.hides_usage()))
        } else {
            Form::Whole(Whole::default())
        };
        Self {
            tap: Some(tap),
            notes: match refused {
                Some(refused) => Notes::of_refused(refused),
                None => Notes::of_status(status),
            },
            reading,
            form,
            decoder: decoder.map(Box::new),
            came: 0,
            broken: false,
        }
    }

    /// Takes out of the head what will not be true of the body.
    pub(crate) fn edit(&self, headers: &mut HeaderMap) {
        if self.edits() {
            headers.remove(CONTENT_LENGTH);
            if self.decoder.is_some() {
                headers.remove(CONTENT_ENCODING);
            }
        }
    }

    /// Whether bytes are taken out of the body, whose length then is not known beforehand.
    pub(crate) const fn edits(&self) -> bool {
        matches!(&self.form, Form::Events(events) if events.hides())
    }

    /// The most bytes that may go outward if so many come; `None` if that is not known.
    pub(crate) fn most(&self, come: u64) -> Option<u64> {
        match &self.form {
            Form::Events(events) if events.hides() => {
                let decodes = self.decoder.is_some();
                let held = events.held() as u64;
                come.checked_add(held).filter(|_| !decodes)
            }
            _ => Some(come),
        }
    }

    /// Whether the body ends here for its client, whatever is left of it.
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken
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
        let Some(decoder) = &mut self.decoder else {
            return self.read(frame);
        };
        self.came += frame.len() as u64;
        let (decoded, went) = decoder.decode(&frame);
        let shown = self.read(decoded);
        if matches!(&self.form, Form::Refusal(refusal) if refusal.closed) {
            self.decoder = None;
        }
        let edits = self.edits();
        if went != Went::Well {
            self.stop_decoding(went);
            self.broken = edits;
        }
        match (edits, self.broken) {
            (false, _) => frame,
            (true, false) => shown,
            (true, true) => [&*shown, UNDECODABLE].concat().into(),
        }
    }

    fn read(&mut self, frame: Bytes) -> Bytes {
        match &mut self.form {
            Form::Events(events) => return events.push(frame, &mut self.reading),
            Form::Whole(whole) => whole.push(&frame, &mut self.reading),
            Form::Opaque => self.reading.text += frame.len() as u64,
            Form::Refusal(refusal) => refusal.push(&frame),
        }
        frame
    }

    /// Reads what there is; what comes now is opaque.
    fn stop_decoding(&mut self, went: Went) {
        self.end();
        self.decoder = None;
        if let Form::Refusal(refusal) = &mut self.form {
            refusal.closed = true;
            return;
        }
        self.form = Form::Opaque;
        if went == Went::TooLarge {
            // What blows up is not paid for: every byte that came counts, as of what cannot be read.
            self.reading.text = self.came;
        }
    }

    /// Takes the end of the body; gives what was held back.
    pub(crate) fn end(&mut self) -> Bytes {
        match &mut self.form {
            Form::Events(events) => return events.end(&mut self.reading),
            Form::Whole(whole) => whole.end(&mut self.reading),
            Form::Opaque => {}
            Form::Refusal(refusal) => self.reading.refusal(&std::mem::take(&mut refusal.head)),
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
            _ if self.reading.failed || self.broken => Outcome::Failed,
            // Many clients hang up at the last event and do not wait for the end of the body.
            Outcome::Aborted if self.reading.done => Outcome::Complete,
            outcome => outcome,
        };
        self.notes.left = outcome == Outcome::Aborted;
        let reading = &mut self.reading;
        if !self.notes.is_told {
            self.notes.error = reading.error.take();
        }
        let tier = reading.service_tier.take();
        self.notes.service_tier = tier.filter(|tier| !tier.is_default());
        let reading = std::mem::replace(reading, Reading::new(tap.api()));
        tap.close(outcome, reading, &self.notes);
    }
}

impl Drop for Metering {
    fn drop(&mut self) {
        self.record(Outcome::Aborted);
    }
}

// === impl Refusal ===

impl Refusal {
    fn push(&mut self, frame: &[u8]) {
        if !self.closed {
            let room = REFUSAL_LIMIT - self.head.len();
            self.head
                .extend_from_slice(frame.get(..room).unwrap_or(frame));
            self.closed = frame.len() >= room;
        }
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
