use std::{
    fmt,
    time::{Duration, SystemTime},
};

use jiff::tz::Offset;

use crate::unix_ms::UnixMs;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How long an allowance lasts before it is given anew.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Window {
    /// A civil day, from midnight to midnight UTC.
    Day,
    /// A civil month, from the first at midnight UTC to the next first.
    Month,
}

// === impl Window ===

impl Window {
    #[cfg(feature = "memory")]
    pub(crate) const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// The name in lower case: `day` or `month`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The period that `at` falls into.
    ///
    /// Periods follow one another without a gap: the end of one is the start of the next. A moment before 1970 counts
    /// as the first of 1970, one after 9998 as the last of 9998.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use tower_quota::Window;
    ///
    /// let leap_day = UNIX_EPOCH + Duration::from_secs(1_709_208_000); // 2024-02-29T12:00:00Z
    /// assert_eq!(Window::Day.period(leap_day).length(), Duration::from_secs(86_400));
    /// assert_eq!(Window::Month.period(leap_day).length(), Duration::from_secs(29 * 86_400));
    /// ```
    #[must_use]
    pub fn period(self, at: SystemTime) -> Period {
        self.period_of(UnixMs::from(at))
    }

    pub(crate) fn period_of(self, at: UnixMs) -> Period {
        let since_midnight = Duration::from_millis(at.get() % DAY_MS);
        let midnight = at.saturating_sub(since_midnight);
        let (before, days) = match self {
            Self::Day => (0, 1),
            Self::Month => {
                let date = Offset::UTC.to_datetime(at.timestamp()).date();
                (
                    date.day().unsigned_abs() - 1,
                    date.days_in_month().unsigned_abs(),
                )
            }
        };
        let start = midnight.saturating_sub(in_days(before));
        Period {
            start,
            end: start.saturating_add(in_days(days)),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One day or one month of a [`Window`]: from its start, up to but without its end.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Period {
    start: UnixMs,
    end: UnixMs,
}

// === impl Period ===

impl Period {
    /// The first moment of the period.
    #[must_use]
    pub fn start(&self) -> SystemTime {
        self.start.system_time()
    }

    /// The first moment after the period, when the next one starts.
    #[must_use]
    pub fn end(&self) -> SystemTime {
        self.end.system_time()
    }

    /// How long the period is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.end.since(self.start)
    }

    pub(crate) fn end_ms(&self) -> UnixMs {
        self.end
    }

    #[cfg(feature = "memory")]
    pub(crate) fn holds(&self, at: UnixMs) -> bool {
        self.start <= at && at < self.end
    }
}

fn in_days(days: u8) -> Duration {
    Duration::from_millis(DAY_MS * u64::from(days))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> UnixMs {
        UnixMs::from(SystemTime::from(text.parse::<jiff::Timestamp>().unwrap()))
    }

    fn period(window: Window, text: &str) -> (String, String) {
        let period = window.period_of(at(text));
        (
            period.start.timestamp().to_string(),
            period.end.timestamp().to_string(),
        )
    }

    #[test]
    fn a_day_ends_at_midnight_to_the_millisecond() {
        assert_eq!(
            period(Window::Day, "2026-03-15T23:59:59.999Z"),
            ("2026-03-15T00:00:00Z".into(), "2026-03-16T00:00:00Z".into())
        );
        assert_eq!(
            period(Window::Day, "2026-03-16T00:00:00Z"),
            ("2026-03-16T00:00:00Z".into(), "2026-03-17T00:00:00Z".into())
        );
    }

    #[test]
    fn months_have_their_own_lengths() {
        for (inside, start, end) in [
            ("2026-02-28T23:59:59.999Z", "2026-02-01", "2026-03-01"),
            ("2024-02-29T00:00:00Z", "2024-02-01", "2024-03-01"),
            ("2100-02-28T12:00:00Z", "2100-02-01", "2100-03-01"),
            ("2026-04-30T23:59:59.999Z", "2026-04-01", "2026-05-01"),
            ("2026-12-31T23:59:59.999Z", "2026-12-01", "2027-01-01"),
            ("2027-01-01T00:00:00Z", "2027-01-01", "2027-02-01"),
        ] {
            assert_eq!(
                period(Window::Month, inside),
                (format!("{start}T00:00:00Z"), format!("{end}T00:00:00Z")),
                "{inside}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_moment_is_in_exactly_one_period(ms in 0..253_339_228_800_000_u64) {
            let at = UnixMs::new(ms).unwrap();
            for window in [Window::Day, Window::Month] {
                let period = window.period_of(at);
                prop_assert!(period.start <= at && at < period.end);
                prop_assert_eq!(window.period_of(period.start), period);
                prop_assert_eq!(window.period_of(period.end).start, period.end);
                let last = period.end.saturating_sub(Duration::from_millis(1));
                prop_assert_eq!(window.period_of(last).start, period.start);
            }
        }
    }
}
