use std::time::Duration;

/// How an [`SqliteLedger`](super::SqliteLedger) is kept.
#[derive(Clone, Copy, Debug)]
pub struct LedgerOptions {
    pub(super) capacity: usize,
    pub(super) busy_timeout: Duration,
}

// === impl LedgerOptions ===

impl LedgerOptions {
    /// Room for 8192 records on their way, and five seconds of waiting for another writer of the file.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            capacity: 8192,
            busy_timeout: Duration::from_secs(5),
        }
    }

    /// Sets how many records may be on their way, from admission until they are settled. Beyond, admission is refused.
    #[must_use]
    pub const fn capacity(self, records: usize) -> Self {
        Self {
            capacity: records,
            ..self
        }
    }

    /// Sets how long one attempt to write waits for another writer of the file. After it comes the next attempt; no
    /// record is lost.
    #[must_use]
    pub const fn busy_timeout(self, time: Duration) -> Self {
        Self {
            busy_timeout: time,
            ..self
        }
    }
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self::new()
    }
}
