use std::time::SystemTime;

use crate::{Allowance, Demand, Denied, Limit, Period};

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

    /// What a request would be told now that demands this of the limit's dimension; `None` if the limit would let it
    /// pass. It explains, and decides nothing: by the time of the request things may stand otherwise.
    #[must_use]
    pub fn refuses(&self, demand: Demand) -> Option<Denied> {
        let Allowance::AtMost(allowed) = self.limit.allowance() else {
            return None;
        };
        let denied = Denied::new(
            self.limit.dimension(),
            self.limit.window(),
            self.period,
            allowed,
            self.used,
            self.reserved,
        );
        (denied.remaining() < demand.min).then_some(denied)
    }

    /// When the allowance is given anew.
    #[must_use]
    pub fn resets_at(&self) -> SystemTime {
        self.period.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{Dimension, TimeZone, Window};

    #[test]
    fn it_explains_what_a_store_would_say() {
        let period = Window::Day.period(UNIX_EPOCH, &TimeZone::UTC);
        let standing = |allowance| {
            let limit = Limit::new(Dimension::Calls, Window::Day, allowance);
            Standing::new(limit, period, 3, 2)
        };
        let six = standing(Allowance::AtMost(6));
        assert_eq!(six.refuses(Demand::exactly(1)), None);
        let denied = six.refuses(Demand::exactly(2)).unwrap();
        assert_eq!(
            (denied.limit(), denied.used(), denied.reserved()),
            (6, 3, 2)
        );
        let none = standing(Allowance::AtMost(0));
        assert!(none.refuses(Demand::something_left()).is_some());
        assert_eq!(none.refuses(Demand::default()), None);
        let unlimited = standing(Allowance::Unlimited);
        assert_eq!(unlimited.refuses(Demand::exactly(u64::MAX)), None);
    }
}
