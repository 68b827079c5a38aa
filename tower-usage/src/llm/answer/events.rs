use memchr::memchr2;

/// Finds where the events of a stream end (WHATWG HTML §9.2.6, "Interpreting an event stream").
///
/// A line ends with CR, LF or CRLF, an event with an empty line. Fed with the stream in pieces of any size.
#[derive(Debug)]
pub(super) struct EventEnds {
    /// The current line has no bytes so far.
    blank: bool,
    /// The last byte was a CR, of which an LF may be the second half.
    after_cr: bool,
    /// The last byte ended an event.
    between: bool,
}

// === impl EventEnds ===

impl EventEnds {
    pub(super) const fn new() -> Self {
        Self {
            blank: true,
            after_cr: false,
            between: false,
        }
    }

    /// Whether the first byte is the second half of the CRLF that ended the event before.
    pub(super) fn owed_lf(&mut self, bytes: &[u8]) -> bool {
        let owed = self.between && self.after_cr && bytes.first() == Some(&b'\n');
        if owed {
            self.after_cr = false;
        }
        owed
    }

    /// The length of what is left of the current event, with its empty line, if it ends within `bytes`.
    pub(super) fn next_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let first = bytes.first()?;
        let mut at = usize::from(std::mem::take(&mut self.after_cr) && *first == b'\n');
        loop {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            self.between = false;
            let Some(len) = memchr2(b'\r', b'\n', rest) else {
                self.blank = false;
                return None;
            };
            let ended = self.blank && len == 0;
            let is_cr = rest.get(len) == Some(&b'\r');
            at += len + 1;
            match bytes.get(at) {
                Some(b'\n') if is_cr => at += 1,
                None => self.after_cr = is_cr,
                Some(_) => {}
            }
            self.blank = true;
            if ended {
                self.between = true;
                return Some(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a stream cut into pieces of this size.
    fn split(stream: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut ends = EventEnds::new();
        let (mut events, mut carry) = (Vec::<Vec<u8>>::new(), Vec::new());
        for mut piece in stream.chunks(size) {
            if ends.owed_lf(piece) {
                events.last_mut().unwrap().push(b'\n');
                piece = &piece[1..];
            }
            while let Some(len) = ends.next_end(piece) {
                carry.extend_from_slice(&piece[..len]);
                events.push(std::mem::take(&mut carry));
                piece = &piece[len..];
            }
            carry.extend_from_slice(piece);
        }
        events.push(carry);
        events
    }

    #[test]
    fn d6_57_finds_the_same_events_however_the_stream_is_cut() {
        let stream =
            b"data: a\n\n: hi\r\n\r\ndata: b\rdata: c\r\rdata: d\r\n\n\r\ndata: e\n\r\ndata: f";
        let events = [
            "data: a\n\n",
            ": hi\r\n\r\n",
            "data: b\rdata: c\r\r",
            "data: d\r\n\n",
            "\r\n",
            "data: e\n\r\n",
            "data: f",
        ]
        .map(|event| event.as_bytes().to_vec());
        for size in 1..=stream.len() {
            assert_eq!(split(stream, size), events, "pieces of {size} bytes");
        }
    }
}
