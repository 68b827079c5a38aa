use bytes::Bytes;

use super::{events::EventEnds, reading::Reading, whole::ANSWER_LIMIT};

/// An event larger than this goes by unread if it would have to be held back.
const HELD_LIMIT: usize = 1 << 20;

/// A stream of events, each read when it is complete.
#[derive(Debug)]
pub(super) struct Events {
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

// === impl Events ===

impl Events {
    pub(super) const fn new(hide: bool) -> Self {
        Self {
            ends: EventEnds::new(),
            carry: Vec::new(),
            skipping: false,
            hide,
            hid_last: false,
        }
    }

    pub(super) fn push(&mut self, frame: Bytes, reading: &mut Reading) -> Bytes {
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

    /// Whether events are taken out.
    pub(super) const fn hides(&self) -> bool {
        self.hide
    }

    /// Bytes that are not forwarded yet.
    pub(super) const fn held(&self) -> usize {
        if self.hide { self.carry.len() } else { 0 }
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
        // The last event of a response is the whole of it, pictures included.
        let limit = if self.hide { HELD_LIMIT } else { ANSWER_LIMIT };
        if !self.skipping && self.carry.len() + tail.len() <= limit {
            self.carry.extend_from_slice(tail);
            return None;
        }
        self.skipping = true;
        let mut released = std::mem::take(&mut self.carry);
        released.extend_from_slice(tail);
        reading.text += released.len() as u64;
        Some(released)
    }

    pub(super) fn end(&mut self, reading: &mut Reading) -> Bytes {
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
