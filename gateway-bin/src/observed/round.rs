use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::instance::AdminError;

/// First and longest pause before an instance that did not answer is asked again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How often in a round something may fail: then what is left of it is a part of the next.
const FAILURES: u32 = 10;

/// A look at all that was written since a time, one session after the other.
#[derive(Debug)]
pub(super) struct Round {
    /// By the store's clock. Once nothing is left, what was written before is recorded.
    pub(super) begun: SystemTime,
    /// From when it looks, in milliseconds since 1970 by the instance's clock.
    pub(super) from: u64,
    left: VecDeque<Arc<str>>,
    failures: u32,
}

// === impl Round ===

impl Round {
    pub(super) fn new(begun: SystemTime, from: u64, sessions: BTreeSet<Arc<str>>) -> Self {
        Self {
            begun,
            from,
            left: sessions.into_iter().collect(),
            failures: 0,
        }
    }

    /// The session to be read now.
    pub(super) fn next(&self) -> Option<Arc<str>> {
        self.left.front().cloned()
    }

    /// It is read.
    pub(super) fn done(&mut self) {
        self.left.pop_front();
    }

    /// It cannot be read now, and the others do not wait for it. `false`: too much has failed.
    pub(super) fn put_off(&mut self) -> bool {
        if let Some(session_key) = self.left.pop_front() {
            self.left.push_back(session_key);
        }
        self.failures += 1;
        self.failures < FAILURES
    }
}

/// How long an instance is left alone that has failed so many times in a row.
pub(super) fn pause(failures: u32, error: &AdminError) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    let pause = PAUSE.0.saturating_mul(doubled).min(PAUSE.1);
    match error {
        AdminError::Refused {
            retry_after: Some(after),
            ..
        } => pause.max(*after),
        _ => pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_a_minute_and_is_at_least_what_the_instance_asks_for() {
        let after = |failures| pause(failures, &AdminError::Down).as_secs();
        let pauses = [1, 2, 3, 5, 6, 7, u32::MAX].map(after);
        assert_eq!(pauses, [2, 4, 8, 32, 60, 60, 60]);
        let busy = AdminError::Refused {
            method: "chat.history",
            message: "busy".to_owned(),
            retry_after: Some(Duration::from_secs(30)),
        };
        assert_eq!(pause(1, &busy).as_secs(), 30);
    }

    #[test]
    fn what_cannot_be_read_now_comes_last_and_not_for_ever() {
        let sessions = ["a", "b"].map(Arc::from).into_iter().collect();
        let mut round = Round::new(SystemTime::UNIX_EPOCH, 0, sessions);
        assert!(round.put_off());
        assert_eq!(round.next().as_deref(), Some("b"));
        round.done();
        assert_eq!(round.next().as_deref(), Some("a"));
        assert!((0..FAILURES).any(|_| !round.put_off()));
        round.done();
        assert_eq!(round.next(), None);
    }
}
