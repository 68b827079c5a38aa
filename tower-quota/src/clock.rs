use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Where a store reads the time.
///
/// Every decision of a store is made by its own clock, so that several servers before one store agree on when a
/// window ends. Any `Fn() -> SystemTime` is one, so that a test sets the time.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> SystemTime;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The operating system's clock, but for its leaps.
///
/// When the clock leaps by more than ten seconds, forth or back, time goes on as if it had not, by the monotonic clock,
/// until the leap has lasted for an hour: so a clock that is set wrongly for a while opens nobody's next day and takes
/// nobody back into the last. A clock that was wrong from the start is believed. On a machine that was suspended, time
/// goes on from where it was, for an hour.
pub struct SteadyClock {
    steady: Mutex<Steady>,
}

/// What time it was when it was asked last, and what the leap is that is not believed.
#[derive(Clone, Copy, Debug)]
struct Steady {
    asked: Instant,
    told: SystemTime,
    leap: Option<Leap>,
}

#[derive(Clone, Copy, Debug)]
struct Leap {
    since: Instant,
    /// Where the clock was then.
    to: SystemTime,
}

/// What a clock may be corrected by at once.
const CORRECTION: Duration = Duration::from_secs(10);

/// For how long a leap is not believed.
const DISBELIEF: Duration = Duration::from_secs(3_600);

// === impl SystemClock ===

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where this crate reads the wall clock"
    )]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

// === impl SteadyClock ===

impl SteadyClock {
    /// A clock that goes on from the present moment.
    #[must_use]
    pub fn new() -> Self {
        Self {
            steady: Mutex::new(Steady::new(Instant::now(), SystemClock.now())),
        }
    }
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> SystemTime {
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        steady.tell(Instant::now(), SystemClock.now())
    }
}

impl fmt::Debug for SteadyClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteadyClock").finish_non_exhaustive()
    }
}

// === impl Steady ===

impl Steady {
    const fn new(asked: Instant, told: SystemTime) -> Self {
        Self {
            asked,
            told,
            leap: None,
        }
    }

    /// The time at `now`, when the operating system says `wall`.
    fn tell(&mut self, now: Instant, wall: SystemTime) -> SystemTime {
        let steady = later(self.told, now.saturating_duration_since(self.asked));
        let leap = self.leap.filter(|leap| {
            // Still the same one, and not another.
            let to = later(leap.to, now.saturating_duration_since(leap.since));
            distance(to, wall) <= CORRECTION
        });
        let lasted = leap.map(|leap| now.saturating_duration_since(leap.since));
        if distance(steady, wall) <= CORRECTION || lasted >= Some(DISBELIEF) {
            *self = Self::new(now, wall);
            return wall;
        }
        *self = Self {
            asked: now,
            told: steady,
            leap: Some(leap.unwrap_or(Leap {
                since: now,
                to: wall,
            })),
        };
        steady
    }
}

/// No later than there are times.
fn later(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}

fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other)
        .unwrap_or_else(|before| before.duration())
}

// === impl Clock ===

impl<F> Clock for F
where
    F: Fn() -> SystemTime + Send + Sync + 'static,
{
    fn now(&self) -> SystemTime {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const MINUTE: Duration = Duration::from_secs(60);

    /// A day that begins at noon.
    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY + DAY / 2
    }

    #[test]
    fn d5_50_a_leap_of_a_day_is_not_followed_for_an_hour_and_its_end_is_none() {
        for (there, back) in [(true, false), (false, false), (true, true), (false, true)] {
            let start = Instant::now();
            let mut steady = Steady::new(start, noon());
            let leapt = |wall: SystemTime| if there { wall + DAY } else { wall - DAY };
            for minute in 1..=60 {
                let by = minute * MINUTE;
                let told = steady.tell(start + by, leapt(noon() + by));
                assert_eq!(told, noon() + by, "after {minute} minutes");
            }
            let by = 61 * MINUTE;
            let wall = if back {
                noon() + by
            } else {
                leapt(noon() + by)
            };
            assert_eq!(steady.tell(start + by, wall), wall, "{there} {back}");
        }
    }

    #[test]
    fn another_leap_is_disbelieved_for_an_hour_of_its_own() {
        let start = Instant::now();
        let mut steady = Steady::new(start, noon());
        let mut tell = |minute: u32, leap: Duration| {
            let by = minute * MINUTE;
            steady.tell(start + by, noon() + by + leap) - by
        };
        assert_eq!(tell(1, DAY), noon());
        assert_eq!(tell(59, DAY), noon());
        assert_eq!(tell(60, 3 * DAY), noon());
        assert_eq!(tell(119, 3 * DAY), noon());
        assert_eq!(tell(120, 3 * DAY), noon() + 3 * DAY);
    }

    #[test]
    fn a_clock_that_is_corrected_is_followed() {
        let start = Instant::now();
        let mut steady = Steady::new(start, noon());
        let corrected = noon() + MINUTE - CORRECTION;
        assert_eq!(steady.tell(start + MINUTE, corrected), corrected);
        assert_eq!(
            steady.tell(start + MINUTE, corrected + CORRECTION),
            corrected + CORRECTION
        );
    }

    #[test]
    fn the_steady_clock_tells_the_time_of_the_system() {
        assert!(distance(SteadyClock::new().now(), SystemClock.now()) < CORRECTION);
    }
}
