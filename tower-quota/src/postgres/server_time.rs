use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

use crate::unix_ms::UnixMs;

/// About what time it is at the server, by what it last said.
pub(super) struct ServerTime {
    begun: Instant,
    /// What to add to the milliseconds since then.
    offset: AtomicI64,
}

// === impl ServerTime ===

impl ServerTime {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            // The first to be learnt is less.
            offset: AtomicI64::new(i64::MAX),
        }
    }

    /// The server, asked between two moments, said what time it was.
    pub(super) fn learn(&self, sent: Instant, received: Instant, server_ms: i64) {
        // Each is rounded down to a millisecond.
        let least = server_ms
            .saturating_sub(self.elapsed(received))
            .saturating_sub(1);
        let most = server_ms
            .saturating_sub(self.elapsed(sent))
            .saturating_add(1);
        let offset = self.offset.load(Ordering::Relaxed);
        if offset < least || offset > most {
            // If two learn at once, either is right.
            let nearest = offset.max(least).min(most);
            self.offset.store(nearest, Ordering::Relaxed);
        }
    }

    pub(super) fn at(&self, moment: Instant) -> UnixMs {
        let offset = self.offset.load(Ordering::Relaxed);
        UnixMs::saturating(self.elapsed(moment).saturating_add(offset))
    }

    fn elapsed(&self, moment: Instant) -> i64 {
        let elapsed = moment.saturating_duration_since(self.begun).as_millis();
        i64::try_from(elapsed).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_answers_say_is_narrowed_down_and_a_clock_that_jumps_is_followed() {
        let time = ServerTime::new();
        let at = |ms| time.begun + Duration::from_millis(ms);
        // 1,000 there at some time from 0 to 100 here.
        time.learn(at(0), at(100), 1_000);
        assert_eq!(time.at(at(0)).get(), 1_001);
        time.learn(at(200), at(202), 1_150);
        assert_eq!(time.at(at(0)).get(), 951);
        // Slow, and says nothing new.
        time.learn(at(300), at(900), 1_300);
        assert_eq!(time.at(at(0)).get(), 951);
        time.learn(at(1_000), at(1_001), 90_000);
        assert!((89_998..=90_002).contains(&time.at(at(1_000)).get()));
        time.learn(at(1_000), at(1_001), 500);
        assert!((498..=502).contains(&time.at(at(1_000)).get()));
    }
}
