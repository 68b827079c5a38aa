use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::{Dimension, Period, Window, unix_ms::UnixMs};

/// A refusal by quota: the limit that does not leave enough, and how it stands.
///
/// Where several limits refuse, this is the one that is reset last, since a request has to wait for all of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Denied {
    dimension: Dimension,
    window: Window,
    period: Period,
    limit: u64,
    used: u64,
    reserved: u64,
    level: u8,
}

// === impl Denied ===

impl Denied {
    /// A refusal by the limit of `dimension` in `window`, which in this `period` allows `limit`, of which `used` are
    /// used and `reserved` are held for requests in flight.
    #[must_use]
    pub const fn new(
        dimension: Dimension,
        window: Window,
        period: Period,
        limit: u64,
        used: u64,
        reserved: u64,
    ) -> Self {
        Self {
            dimension,
            window,
            period,
            limit,
            used,
            reserved,
            level: 0,
        }
    }

    /// The same refusal by the limit of a parent: the innermost is at level 1.
    #[must_use]
    pub const fn at_level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    /// Whose limit it is: 0 for the subject of the charge itself, 1 for the innermost of its
    /// [parents](crate::Subject::parents), and so on.
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// What there is not enough of.
    #[must_use]
    pub const fn dimension(&self) -> Dimension {
        self.dimension
    }

    /// The window of the limit.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The period that is used up.
    #[must_use]
    pub const fn period(&self) -> Period {
        self.period
    }

    /// What the period allows, in the dimension's [unit](Dimension::unit).
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// What is used, in the same unit.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// What requests in flight hold, in the same unit.
    #[must_use]
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// What is left: less than the request needs, and not always zero.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.limit
            .saturating_sub(self.used)
            .saturating_sub(self.reserved)
    }

    /// When the allowance is given anew.
    #[must_use]
    pub fn resets_at(&self) -> SystemTime {
        self.period.end()
    }

    /// How long from `now` until the allowance is given anew; zero if that moment has passed.
    #[must_use]
    pub fn retry_after(&self, now: SystemTime) -> Duration {
        self.period.end_ms().since(UnixMs::from(now))
    }

    /// The name of the limit for machines, such as `daily_tokens` or `monthly_cost`.
    #[must_use]
    pub const fn limit_name(&self) -> &'static str {
        self.names().0
    }

    /// The refusal for machines, such as `daily_tokens_exceeded` or `monthly_cost_exceeded`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.names().1
    }

    const fn names(&self) -> (&'static str, &'static str) {
        macro_rules! names {
            ($($window:ident $dimension:ident $name:literal),* $(,)?) => {
                match (self.window, self.dimension) {
                    $((Window::$window, Dimension::$dimension) => ($name, concat!($name, "_exceeded")),)*
                }
            };
        }
        names! {
            Minute Tokens "minutely_tokens",
            Minute Cost "minutely_cost",
            Minute Calls "minutely_calls",
            Hour Tokens "hourly_tokens",
            Hour Cost "hourly_cost",
            Hour Calls "hourly_calls",
            Day Tokens "daily_tokens",
            Day Cost "daily_cost",
            Day Calls "daily_calls",
            Month Tokens "monthly_tokens",
            Month Cost "monthly_cost",
            Month Calls "monthly_calls",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = self.window.adjective();
        let (dimension, unit) = match self.dimension {
            Dimension::Tokens => ("token", "tokens"),
            Dimension::Cost => ("cost", "nano-USD"),
            Dimension::Calls => ("call", "calls"),
        };
        write!(
            f,
            "{window} {dimension} limit exceeded ({} used and {} reserved of {} {unit})",
            self.used, self.reserved, self.limit
        )
    }
}

impl std::error::Error for Denied {}
