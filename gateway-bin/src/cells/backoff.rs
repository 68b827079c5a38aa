//! When a cell that has failed is started again.

use std::time::Duration;

use tokio::time::Instant;

/// After the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);

/// Longest.
const MOST: Duration = Duration::from_secs(5 * 60);

/// How long a cell must have run until earlier failures do not count any more.
const STABLE: Duration = Duration::from_secs(2 * 60);

/// So many failures one after another are told as what they are.
const LOOP: u32 = 3;

/// The failures of a cell one after another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

// === impl Backoff ===

impl Backoff {
    /// It failed, after it had run for so long. How long it is to be left alone.
    pub(super) fn failed(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(16);
        let pause = (FIRST * 2_u32.pow(doublings)).min(MOST);
        self.until = Some(Instant::now() + pause);
        pause
    }

    /// It ended because it was told to.
    pub(super) fn ended_well(&mut self) {
        *self = Self::default();
    }

    /// How long it is still to be left alone.
    pub(super) fn pause(&self) -> Option<Duration> {
        let pause = self.until?.saturating_duration_since(Instant::now());
        (!pause.is_zero()).then_some(pause)
    }

    /// How often it has failed, if that is often.
    pub(super) fn in_a_loop(&self) -> Option<u32> {
        (self.failures >= LOOP).then_some(self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_again_is_left_alone_for_longer() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(), None);
        let pauses: Vec<_> = (0..10).map(|_| backoff.failed(Duration::ZERO)).collect();
        let seconds: Vec<_> = pauses.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(backoff.in_a_loop(), Some(10));
        assert_eq!(backoff.pause(), Some(MOST));
        tokio::time::advance(MOST).await;
        assert_eq!(backoff.pause(), None);
        assert_eq!(backoff.failed(STABLE), FIRST, "it had run for long");
        assert_eq!(backoff.in_a_loop(), None);
        backoff.ended_well();
        assert_eq!(backoff.pause(), None);
        for _ in 0..100 {
            assert!(backoff.failed(Duration::ZERO) <= MOST);
        }
    }
}
