use crate::{
    Allowance, Charge, Grant, Limit, Limits, Subject, Terms, TimeZone, Window, unix_ms::UnixMs,
};

/// Everything that a server needs to decide on a charge.
pub(crate) struct Question {
    pub(crate) demands: Charge,
    /// The subject, and then each of its parents.
    pub(crate) levels: Vec<Level>,
}

/// What counts for one subject.
pub(crate) struct Level {
    pub(crate) subject: Subject,
    /// Of the terms that the rest follows from.
    pub(crate) version: u64,
    pub(crate) limits: Limits,
    pub(crate) grants: Vec<Grant>,
    /// The periods that the server may find itself in.
    pub(crate) periods: Vec<Candidates>,
}

/// Three periods of a window that follow one another: from the first to the second of these moments, and so on. The
/// server takes the one that holds its own time, and if none does, says what time it is.
pub(crate) struct Candidates {
    pub(crate) window: Window,
    pub(crate) bounds: [UnixMs; 4],
}

/// About what time it is at the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calendar(pub(crate) UnixMs);

// === impl Level ===

impl Level {
    pub(super) fn new(
        subject: Subject,
        terms: &Terms,
        limits: Limits,
        zone: &TimeZone,
        calendar: Calendar,
    ) -> Self {
        let windows = Window::ALL.into_iter().filter(|window| {
            // Days and months count whether they are limited or not.
            matches!(window, Window::Day | Window::Month)
                || limits.iter().any(|limit| limit.window() == *window)
        });
        Self {
            periods: windows
                .map(|window| calendar.candidates(window, zone))
                .collect(),
            subject,
            version: terms.version(),
            grants: terms.grants().to_vec(),
            limits,
        }
    }

    /// What a limit allows with what is granted besides.
    pub(crate) fn allowance(&self, limit: &Limit, now: UnixMs) -> Allowance {
        match limit.allowance() {
            Allowance::AtMost(amount) => {
                let grants = self.grants.iter().filter(|grant| grant.adds_to(limit, now));
                let amounts = grants.map(Grant::amount);
                Allowance::AtMost(amounts.fold(amount, u64::saturating_add))
            }
            Allowance::Unlimited => Allowance::Unlimited,
        }
    }
}

// === impl Calendar ===

impl Calendar {
    fn candidates(self, window: Window, zone: &TimeZone) -> Candidates {
        let present = window.period_of(self.0, zone);
        let millisecond = std::time::Duration::from_millis(1);
        let before = present.start_ms().saturating_sub(millisecond);
        let before = window.period_of(before, zone).start_ms();
        let after = window.period_of(present.end_ms(), zone).end_ms();
        Candidates {
            window,
            bounds: [before, present.start_ms(), present.end_ms(), after],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidates_follow_one_another_around_the_time() {
        for at in [0, 86_399_999, 86_400_000, 1_773_576_000_000] {
            let at = UnixMs::new(at).unwrap();
            for window in Window::ALL {
                let zone = TimeZone::named("Europe/Berlin").unwrap();
                let [before, start, end, after] = Calendar(at).candidates(window, &zone).bounds;
                assert!(before <= start && start <= at && at < end && end < after);
                assert_eq!(window.period_of(end, &zone).start_ms(), end);
            }
        }
    }
}
