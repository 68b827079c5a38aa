use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Reason, VerifyError};

/// What a verifier has done since it was made. A snapshot: each number by itself is exact.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Tokens that verified, remembered ones too.
    pub verified: u64,
    /// Of these, tokens whose verdict was remembered.
    pub remembered: u64,
    /// Tokens that could not be verified for want of keys.
    pub unavailable: u64,
    /// Attempts to renew the keys.
    pub refreshes: u64,
    /// Of these, attempts that failed.
    pub failed_refreshes: u64,
    refused: [u64; REASONS],
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    verified: AtomicU64,
    remembered: AtomicU64,
    unavailable: AtomicU64,
    refused: [AtomicU64; REASONS],
}

const REASONS: usize = Reason::ALL.len();

// === impl Stats ===

impl Stats {
    /// Tokens refused for this reason.
    #[must_use]
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused
            .get(reason as usize)
            .copied()
            .unwrap_or_default()
    }
}

// === impl Counters ===

impl Counters {
    pub(super) fn count_verified(&self) {
        self.verified.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_remembered(&self) {
        self.count_verified();
        self.remembered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_error(&self, error: VerifyError) {
        let counter = match error {
            VerifyError::Unavailable => Some(&self.unavailable),
            VerifyError::Invalid(reason) => self.refused.get(reason as usize),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn snapshot(&self, refreshes: u64, failed_refreshes: u64) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            verified: read(&self.verified),
            remembered: read(&self.remembered),
            unavailable: read(&self.unavailable),
            refreshes,
            failed_refreshes,
            refused: self.refused.each_ref().map(read),
        }
    }
}
