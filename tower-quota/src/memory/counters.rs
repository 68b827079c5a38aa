use std::time::Duration;

use crate::{Amounts, Dimension, Limits, Period, TimeZone, Window, unix_ms::UnixMs};

/// How long a day or a month that is over is remembered: a settlement may still be due, and a clock that is set back may
/// make it the present one again.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a minute or an hour is: as long as it lasts would be many, and nobody asks for more of it.
const SHORT_MEMORY: Duration = Duration::from_secs(60);

/// What one subject used and holds: a few periods, the present ones and those that ended lately.
#[derive(Debug, Default)]
pub(super) struct Counters(Vec<Counter>);

/// What counts in one period, in every dimension, limited or not.
#[derive(Debug)]
pub(super) struct Counter {
    window: Window,
    pub(super) period: Period,
    pub(super) used: Amounts,
    pub(super) reserved: Amounts,
    /// The first reservation that is held in it. Those before were made when the window was not limited.
    since: u64,
}

// === impl Counters ===

impl Counters {
    /// Makes sure that every window that counts has a counter for the moment `at`, unless its period is forgotten `now`.
    ///
    /// Days and months count in any case, minutes and hours where they are limited. A period that is there already stays
    /// as it is: where a zone was changed, the one that follows begins at its end. In a new one reservations are held from
    /// `since` on.
    pub(super) fn open(
        &mut self,
        at: UnixMs,
        now: UnixMs,
        limits: &Limits,
        zone: &TimeZone,
        since: u64,
    ) {
        for window in Window::ALL {
            if self.find(window, at).is_some() {
                continue;
            }
            let counts = matches!(window, Window::Day | Window::Month)
                || limits.iter().any(|limit| limit.window() == window);
            if !counts {
                continue;
            }
            self.0.retain(|counter| !counter.is_forgotten(now));
            let others = || self.0.iter().filter(|other| other.window == window);
            let ended = others().map(|other| other.period.end_ms());
            let ended = ended.filter(|end| *end <= at).max();
            let begins = others().map(|other| other.period.start_ms());
            let begins = begins.filter(|start| *start > at).min();
            let period = window.period_of(at, zone);
            let counter = Counter {
                window,
                period: period.between(
                    ended.unwrap_or_else(|| period.start_ms()),
                    begins.unwrap_or_else(|| period.end_ms()),
                ),
                used: Amounts::new(),
                reserved: Amounts::new(),
                since,
            };
            if !counter.is_forgotten(now) {
                self.0.push(counter);
            }
        }
    }

    /// Sets `amounts` aside in the periods of `at`.
    pub(super) fn hold(&mut self, at: UnixMs, amounts: Amounts) {
        for counter in self.of(at) {
            counter.reserved = counter.reserved.saturating_add(amounts);
        }
    }

    /// Gives back the `amounts` that a reservation holds in the periods of `at`.
    pub(super) fn free(&mut self, at: UnixMs, amounts: Amounts, sequence: u64) {
        for counter in self.of(at).filter(|counter| counter.since <= sequence) {
            counter.reserved = counter.reserved.saturating_sub(amounts);
        }
    }

    /// Counts what was `used` in the periods of `at`.
    pub(super) fn count(&mut self, at: UnixMs, used: Amounts) {
        for counter in self.of(at) {
            counter.used = counter.used.saturating_add(used);
        }
    }

    pub(super) fn find(&self, window: Window, at: UnixMs) -> Option<&Counter> {
        self.0
            .iter()
            .find(|c| c.window == window && c.period.holds(at))
    }

    /// What fits at the moment `at` before a counter is full.
    pub(super) fn room(&self, at: UnixMs) -> Amounts {
        let endless = Dimension::ALL
            .into_iter()
            .fold(Amounts::new(), |endless, d| endless.with(d, u64::MAX));
        self.0
            .iter()
            .filter(|counter| counter.period.holds(at))
            .map(|c| endless.saturating_sub(c.used).saturating_sub(c.reserved))
            .fold(endless, Amounts::min)
    }

    /// Whether nothing counts that is not forgotten.
    pub(super) fn are_idle(&self, now: UnixMs) -> bool {
        self.0
            .iter()
            .all(|c| c.is_forgotten(now) || (c.used.is_zero() && c.reserved.is_zero()))
    }

    fn of(&mut self, at: UnixMs) -> impl Iterator<Item = &mut Counter> {
        self.0.iter_mut().filter(move |c| c.period.holds(at))
    }
}

// === impl Counter ===

impl Counter {
    fn is_forgotten(&self, now: UnixMs) -> bool {
        let memory = match self.window {
            Window::Minute | Window::Hour => SHORT_MEMORY,
            Window::Day | Window::Month => MEMORY,
        };
        self.period.end_ms().saturating_add(memory) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Amounts = Amounts::new().calls(1);

    fn at(ms: u64) -> UnixMs {
        UnixMs::new(ms).unwrap()
    }

    fn open(counters: &mut Counters, at: UnixMs, now: UnixMs) {
        counters.open(at, now, &Limits::default(), &TimeZone::UTC, 0);
    }

    #[test]
    fn forgets_periods_a_day_after_their_end() {
        let mut counters = Counters::default();
        for day in 0..365 {
            let now = at(0).saturating_add(day * MEMORY);
            open(&mut counters, now, now);
            counters.count(now, CALL);
            assert!(counters.0.len() <= 4, "day {day}: {counters:?}");
        }
    }

    #[test]
    fn a_clock_set_back_over_midnight_finds_the_day_before() {
        let (before, after) = (at(86_399_999), at(86_400_000));
        let mut counters = Counters::default();
        open(&mut counters, before, before);
        counters.count(before, CALL);
        open(&mut counters, after, after);

        assert_eq!(counters.find(Window::Day, before).unwrap().used, CALL);
        assert_eq!(
            counters.find(Window::Day, after).unwrap().used,
            Amounts::new()
        );
    }

    #[test]
    fn a_day_that_is_forgotten_is_not_opened_again() {
        let now = at(0).saturating_add(10 * MEMORY);
        let mut counters = Counters::default();

        open(&mut counters, at(0), now);
        counters.count(at(0), CALL);

        assert!(counters.find(Window::Day, at(0)).is_none());
        assert_eq!(counters.find(Window::Month, now).unwrap().used, CALL);
    }

    #[test]
    fn room_is_what_the_fullest_counter_leaves() {
        let mut counters = Counters::default();
        let all = Amounts::new().calls(u64::MAX);
        open(&mut counters, at(0), at(0));
        assert_eq!(counters.room(at(0)).get(Dimension::Calls), u64::MAX);

        counters.count(at(0), CALL);
        open(&mut counters, at(86_400_000), at(86_400_000));
        counters.hold(at(86_400_000), CALL);

        let room = all.saturating_sub(CALL).saturating_sub(CALL);
        assert_eq!(
            counters.room(at(86_400_000)).get(Dimension::Calls),
            room.get(Dimension::Calls),
            "the month has one used and one held"
        );
    }

    #[test]
    fn d5_50_a_zone_that_is_changed_ends_no_period_and_begins_none_twice() {
        let kiritimati = TimeZone::named("Pacific/Kiritimati").unwrap();
        let honolulu = TimeZone::named("Pacific/Honolulu").unwrap();
        let none = Limits::default();
        let mut counters = Counters::default();
        let noon = at(43_200_000);
        open(&mut counters, noon, noon);
        counters.count(noon, CALL);
        for zone in [&kiritimati, &honolulu] {
            counters.open(noon, noon, &none, zone, 0);
            assert_eq!(counters.find(Window::Day, noon).unwrap().used, CALL);
        }

        // In Honolulu it is 14:00 of the first day at midnight of the second in UTC.
        let midnight = at(86_400_000);
        counters.open(midnight, midnight, &none, &honolulu, 0);
        let rest = counters.find(Window::Day, midnight).unwrap();
        assert_eq!(rest.used, Amounts::new());
        assert_eq!(
            (rest.period.start_ms(), rest.period.end_ms()),
            (midnight, at(122_400_000))
        );
        let next = at(122_400_000);
        counters.open(next, next, &none, &honolulu, 0);
        let whole = counters.find(Window::Day, next).unwrap();
        assert_eq!(whole.period.length(), MEMORY);
    }
}
