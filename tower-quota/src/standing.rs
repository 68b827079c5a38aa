use std::time::SystemTime;

use crate::{Allowance, Limit, Period};

/// How one limit of a subject stands in its present period.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    limit: Limit,
    period: Period,
    used: u64,
    reserved: u64,
}

// === impl Standing ===

impl Standing {
    /// `limit` in `period`, of which `used` are used and `reserved` are held.
    #[must_use]
    pub const fn new(limit: Limit, period: Period, used: u64, reserved: u64) -> Self {
        Self {
            limit,
            period,
            used,
            reserved,
        }
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// The present period.
    #[must_use]
    pub const fn period(&self) -> Period {
        self.period
    }

    /// What is used, in the dimension's [unit](crate::Dimension::unit). It may be more than the limit allows: what a
    /// request took beyond its hold counts too, and a limit may have been lowered.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// What requests in flight hold, in the same unit.
    #[must_use]
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// What is left, or `None` if there is no end to it.
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        match self.limit.allowance() {
            Allowance::AtMost(amount) => Some(
                amount
                    .saturating_sub(self.used)
                    .saturating_sub(self.reserved),
            ),
            Allowance::Unlimited => None,
        }
    }

    /// When the allowance is given anew.
    #[must_use]
    pub fn resets_at(&self) -> SystemTime {
        self.period.end()
    }
}
