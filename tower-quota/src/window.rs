use std::{
    fmt,
    time::{Duration, SystemTime},
};

use jiff::civil::Date;

use crate::{TimeZone, unix_ms::UnixMs};

const MINUTE_MS: u64 = 60 * 1_000;

const HOUR_MS: u64 = 60 * MINUTE_MS;

const DAY_MS: u64 = 24 * HOUR_MS;

/// How long an allowance lasts before it is given anew.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Window {
    /// A minute of UTC, in whatever zone.
    Minute,
    /// An hour of UTC, in whatever zone: where clocks are half an hour off, it begins in the middle of theirs.
    Hour,
    /// A civil day, from its first moment to that of the next. Where clocks change it has 23 or 25 hours, or what it
    /// is there.
    Day,
    /// A civil month, from the first moment of its first day to that of the next month's.
    Month,
}

// === impl Window ===

impl Window {
    /// Every window, the shortest first.
    pub const ALL: [Self; 4] = [Self::Minute, Self::Hour, Self::Day, Self::Month];

    /// The name in lower case: `minute`, `hour`, `day` or `month`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// What is of it: `minutely`, `hourly`, `daily` or `monthly`.
    pub(crate) const fn adjective(self) -> &'static str {
        match self {
            Self::Minute => "minutely",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Month => "monthly",
        }
    }

    /// The period that `at` falls into, in a zone.
    ///
    /// Periods follow one another without a gap: the end of one is the start of the next. A moment before 1970 counts
    /// as the first of 1970, one after 9998 as the last of 9998.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use tower_quota::{TimeZone, Window};
    ///
    /// let leap_day = UNIX_EPOCH + Duration::from_secs(1_709_208_000); // 2024-02-29T12:00:00Z
    /// let of = |window: Window| window.period(leap_day, &TimeZone::UTC).length();
    /// assert_eq!(of(Window::Day), Duration::from_secs(86_400));
    /// assert_eq!(of(Window::Month), Duration::from_secs(29 * 86_400));
    /// ```
    #[must_use]
    pub fn period(self, at: SystemTime, zone: &TimeZone) -> Period {
        self.period_of(UnixMs::from(at), zone)
    }

    pub(crate) fn period_of(self, at: UnixMs, zone: &TimeZone) -> Period {
        match self {
            Self::Minute => even(at, MINUTE_MS),
            Self::Hour => even(at, HOUR_MS),
            Self::Day if *zone == TimeZone::UTC => even(at, DAY_MS),
            Self::Day => civil(at, zone, |date| date, |date| date.tomorrow()),
            Self::Month => civil(at, zone, Date::first_of_month, |date| {
                date.last_of_month().tomorrow()
            }),
        }
    }
}

fn even(at: UnixMs, length: u64) -> Period {
    let start = at.saturating_sub(Duration::from_millis(at.get() % length));
    Period {
        start,
        end: start.saturating_add(Duration::from_millis(length)),
    }
}

/// From the first moment of a date to that of another.
fn civil(
    at: UnixMs,
    zone: &TimeZone,
    first: impl Fn(Date) -> Date,
    next: impl Fn(Date) -> Result<Date, jiff::Error>,
) -> Period {
    let start_of = |date: Date| {
        // Where a date begins twice it is the first time, where its midnight does not exist the moment after.
        let start = date.to_zoned(zone.zone().clone());
        let ms = start.map(|start| start.timestamp().as_millisecond());
        ms.ok().map(UnixMs::saturating)
    };
    let mut date = first(at.timestamp().to_zoned(zone.zone().clone()).date());
    let mut start = start_of(date);
    loop {
        let end = next(date).ok().and_then(|next| {
            date = next;
            start_of(next)
        });
        match (start, end) {
            // Clocks that are set back over midnight show the end of a date once more after the next one has begun.
            (Some(_), Some(end)) if end <= at => start = Some(end),
            (Some(start), Some(end)) => return Period { start, end },
            // Nothing is that far from what a calendar can express; a period that never ends is the safe answer.
            (start, _) => {
                return Period {
                    start: start.unwrap_or(at),
                    end: UnixMs::LAST,
                };
            }
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One minute, hour, day or month of a [`Window`]: from its start, up to but without its end.
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

    /// The period between these moments, as a store over a network has it.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) const fn from_ms(start: UnixMs, end: UnixMs) -> Self {
        Self { start, end }
    }

    /// The same period without what is before `start` or after `end`.
    #[cfg(feature = "memory")]
    pub(crate) fn between(self, start: UnixMs, end: UnixMs) -> Self {
        Self {
            start: self.start.max(start),
            end: self.end.min(end),
        }
    }

    #[cfg(any(feature = "memory", feature = "postgres", feature = "redis"))]
    pub(crate) fn start_ms(&self) -> UnixMs {
        self.start
    }

    pub(crate) fn end_ms(&self) -> UnixMs {
        self.end
    }

    #[cfg(feature = "memory")]
    pub(crate) fn holds(&self, at: UnixMs) -> bool {
        self.start <= at && at < self.end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> UnixMs {
        UnixMs::from(SystemTime::from(text.parse::<jiff::Timestamp>().unwrap()))
    }

    fn period(window: Window, zone: &str, text: &str) -> (String, String) {
        let zone = TimeZone::named(zone).unwrap();
        let period = window.period_of(at(text), &zone);
        (
            period.start.timestamp().to_string(),
            period.end.timestamp().to_string(),
        )
    }

    #[track_caller]
    fn holds(window: Window, zone: &str, inside: &str, start: &str, end: &str) {
        let [inside, start, end] = [inside, start, end].map(|text| match text.len() {
            16 => format!("{text}:00Z"),
            _ => text.to_owned(),
        });
        let period = period(window, zone, &inside);
        assert_eq!(period, (start, end), "{inside} in {zone}");
    }

    #[test]
    fn d5_50_a_day_ends_at_midnight_to_the_millisecond() {
        let day = |inside, start, end| holds(Window::Day, "UTC", inside, start, end);
        day(
            "2026-03-15T23:59:59.999Z",
            "2026-03-15T00:00:00Z",
            "2026-03-16T00:00:00Z",
        );
        day(
            "2026-03-16T00:00:00Z",
            "2026-03-16T00:00:00Z",
            "2026-03-17T00:00:00Z",
        );
    }

    #[test]
    fn minutes_and_hours_are_those_of_utc() {
        let inside = "2026-03-15T13:07:59.999Z";
        for zone in ["UTC", "Asia/Kolkata"] {
            holds(
                Window::Minute,
                zone,
                inside,
                "2026-03-15T13:07:00Z",
                "2026-03-15T13:08:00Z",
            );
            holds(
                Window::Hour,
                zone,
                inside,
                "2026-03-15T13:00:00Z",
                "2026-03-15T14:00:00Z",
            );
        }
    }

    #[test]
    fn d5_50_months_have_their_own_lengths() {
        for (inside, start, end) in [
            ("2026-02-28T23:59:59.999Z", "2026-02-01", "2026-03-01"),
            ("2024-02-29T00:00:00Z", "2024-02-01", "2024-03-01"),
            ("2100-02-28T12:00:00Z", "2100-02-01", "2100-03-01"),
            ("2026-04-30T23:59:59.999Z", "2026-04-01", "2026-05-01"),
            ("2026-12-31T23:59:59.999Z", "2026-12-01", "2027-01-01"),
            ("2027-01-01T00:00:00Z", "2027-01-01", "2027-02-01"),
        ] {
            let (start, end) = (format!("{start}T00:00:00Z"), format!("{end}T00:00:00Z"));
            holds(Window::Month, "UTC", inside, &start, &end);
        }
    }

    /// As it was: what will be, governments change.
    #[test]
    fn d5_50_days_are_as_long_as_they_are_where_people_live() {
        for (zone, inside, start, end) in [
            // 23 hours, and 25.
            (
                "Europe/Berlin",
                "2025-03-30T10:00",
                "2025-03-29T23:00",
                "2025-03-30T22:00",
            ),
            (
                "Europe/Berlin",
                "2025-10-26T00:30",
                "2025-10-25T22:00",
                "2025-10-26T23:00",
            ),
            (
                "America/New_York",
                "2025-11-02T05:30",
                "2025-11-02T04:00",
                "2025-11-03T05:00",
            ),
            // Half hours, quarters, and clocks that change by half an hour.
            (
                "Asia/Kolkata",
                "2025-03-15T18:29",
                "2025-03-14T18:30",
                "2025-03-15T18:30",
            ),
            (
                "Asia/Kathmandu",
                "2025-03-15T18:15",
                "2025-03-15T18:15",
                "2025-03-16T18:15",
            ),
            (
                "Australia/Lord_Howe",
                "2025-04-06T00:00",
                "2025-04-05T13:00",
                "2025-04-06T13:30",
            ),
            // Midnight does not exist: the day begins at one.
            (
                "Africa/Cairo",
                "2024-04-26T10:00",
                "2024-04-25T22:00",
                "2024-04-26T21:00",
            ),
            // Midnight comes twice: the day begins the first time.
            (
                "America/Havana",
                "2024-11-03T04:30",
                "2024-11-03T04:00",
                "2024-11-04T05:00",
            ),
            (
                "America/Havana",
                "2024-11-03T05:30",
                "2024-11-03T04:00",
                "2024-11-04T05:00",
            ),
            // A date that never was: the day before it lasts until the one after it.
            (
                "Pacific/Apia",
                "2011-12-30T05:00",
                "2011-12-29T10:00",
                "2011-12-30T10:00",
            ),
            (
                "Pacific/Apia",
                "2011-12-30T10:00",
                "2011-12-30T10:00",
                "2011-12-31T10:00",
            ),
        ] {
            holds(Window::Day, zone, inside, start, end);
        }
        for (zone, inside, start, end) in [
            (
                "Pacific/Apia",
                "2012-01-01T00:00",
                "2011-12-31T10:00",
                "2012-01-31T10:00",
            ),
            (
                "Pacific/Apia",
                "2011-12-31T09:59",
                "2011-12-01T10:00",
                "2011-12-31T10:00",
            ),
            (
                "Europe/Berlin",
                "2025-03-31T21:59",
                "2025-02-28T23:00",
                "2025-03-31T22:00",
            ),
        ] {
            holds(Window::Month, zone, inside, start, end);
        }
    }

    const ZONES: [&str; 14] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",
        "America/Havana",
        "America/Sao_Paulo",
        "America/Asuncion",
        "Africa/Cairo",
        "Africa/Casablanca",
        "Asia/Kolkata",
        "Asia/Tehran",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
    ];

    /// Slow, and by another way: the moment is in a period if the civil date is the same all the way.
    fn date_of(ms: u64, zone: &TimeZone, window: Window) -> (i16, i8, i8) {
        let date = UnixMs::new(ms)
            .unwrap()
            .timestamp()
            .to_zoned(zone.zone().clone())
            .date();
        match window {
            Window::Month => (date.year(), date.month(), 0),
            _ => (date.year(), date.month(), date.day()),
        }
    }

    proptest! {
        #[test]
        fn every_moment_is_in_exactly_one_period(
            ms in 86_400_000_u64 * 40..253_339_228_800_000_u64, zone in prop::sample::select(&ZONES[..]),
        ) {
            let (at, zone) = (UnixMs::new(ms).unwrap(), TimeZone::named(zone).unwrap());
            for window in Window::ALL {
                let period = window.period_of(at, &zone);
                prop_assert!(period.start <= at && at < period.end);
                prop_assert_eq!(window.period_of(period.start, &zone), period);
                prop_assert_eq!(window.period_of(period.end, &zone).start, period.end);
                let last = period.end.saturating_sub(Duration::from_millis(1));
                prop_assert_eq!(window.period_of(last, &zone), period);
            }
        }

        /// From 1980 to 2040, where clocks change.
        #[test]
        fn d5_50_periods_begin_and_end_where_the_date_changes(
            ms in 315_532_800_000..2_208_988_800_000_u64, zone in prop::sample::select(&ZONES[..]),
        ) {
            let (at, zone) = (UnixMs::new(ms).unwrap(), TimeZone::named(zone).unwrap());
            for window in [Window::Day, Window::Month] {
                let period = window.period_of(at, &zone);
                let date = |ms| date_of(ms, &zone, window);
                prop_assert!(date(period.start.get()) != date(period.start.get() - 1));
                prop_assert!(date(period.end.get()) != date(period.end.get() - 1));
                // A step of a quarter of an hour meets every change in between.
                let mut moment = period.start.get();
                while moment < period.end.get() {
                    prop_assert_eq!(date(moment), date(period.start.get()), "{}", moment);
                    moment += 900_000;
                }
            }
        }
    }
}
