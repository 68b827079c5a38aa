use std::time::SystemTime;

#[cfg(any(feature = "memory", feature = "postgres", feature = "redis"))]
use crate::Limit;
use crate::{Dimension, Window, unix_ms::UnixMs};

/// More of one limit, for a time: it adds to what the limit allows in each period until it expires.
///
/// One that is to be used once expires when the period does.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Grant {
    dimension: Dimension,
    window: Window,
    amount: u64,
    expires_at: UnixMs,
}

// === impl Grant ===

impl Grant {
    /// `amount` more of `dimension` in each `window`, until `expires_at`, to the millisecond.
    #[must_use]
    pub fn new(dimension: Dimension, window: Window, amount: u64, expires_at: SystemTime) -> Self {
        Self {
            dimension,
            window,
            amount,
            expires_at: UnixMs::from(expires_at),
        }
    }

    /// What there is more of.
    #[must_use]
    pub const fn dimension(&self) -> Dimension {
        self.dimension
    }

    /// The window of the limit that it adds to.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// How much more, in the dimension's [unit](Dimension::unit).
    #[must_use]
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// When it ends.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at.system_time()
    }

    #[cfg(any(feature = "memory", feature = "postgres", feature = "redis"))]
    pub(crate) fn adds_to(&self, limit: &Limit, now: UnixMs) -> bool {
        (self.dimension, self.window) == (limit.dimension(), limit.window())
            && now < self.expires_at
    }
}
