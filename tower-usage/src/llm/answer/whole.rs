use bytes::Bytes;

use super::reading::Reading;

/// A whole answer is kept up to this size to be read at its end; beyond, tokens are estimated.
pub(super) const ANSWER_LIMIT: usize = 16 << 20;

/// A whole answer. One frame is kept as it is, several are copied together.
#[derive(Debug, Default)]
pub(super) struct Whole {
    first: Bytes,
    more: Vec<u8>,
    overflowed: bool,
}

// === impl Whole ===

impl Whole {
    pub(super) fn push(&mut self, frame: &Bytes, reading: &mut Reading) {
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

    pub(super) fn bytes(&self) -> &[u8] {
        if self.more.is_empty() {
            &self.first
        } else {
            &self.more
        }
    }
}
