use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in whole milliseconds since 1970, rounded down, between 1970 and the end of 9998.
///
/// The bounds make calendar arithmetic total: every moment has a day and a month that begin and end within what
/// [`jiff::Timestamp`] can express.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct UnixMs(u64);

// === impl UnixMs ===

impl UnixMs {
    /// 9998-12-31T23:59:59.999Z.
    pub(crate) const LAST: Self = Self(253_370_764_799_999);

    /// `None` if `ms` is after 9998.
    pub(crate) fn new(ms: u64) -> Option<Self> {
        (ms <= Self::LAST.0).then_some(Self(ms))
    }

    /// The nearest moment that is one.
    pub(crate) fn saturating(ms: i64) -> Self {
        Self(u64::try_from(ms).unwrap_or(0)).min(Self::LAST)
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_ms(duration))).min(Self::LAST)
    }

    pub(crate) fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_ms(duration)))
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }

    pub(crate) fn timestamp(self) -> jiff::Timestamp {
        i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .unwrap_or(jiff::Timestamp::MAX)
    }
}

impl From<SystemTime> for UnixMs {
    fn from(at: SystemTime) -> Self {
        let elapsed = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(whole_ms(elapsed)).min(Self::LAST)
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bounds() {
        assert_eq!(UnixMs::from(UNIX_EPOCH - Duration::from_secs(1)).get(), 0);
        assert_eq!(
            UnixMs::from(UNIX_EPOCH + Duration::from_secs(1 << 40)),
            UnixMs::LAST
        );
        assert_eq!(UnixMs::LAST.saturating_add(Duration::MAX), UnixMs::LAST);
        assert_eq!(UnixMs::new(UnixMs::LAST.get() + 1), None);
        assert_eq!(
            UnixMs::LAST.timestamp().to_string(),
            "9998-12-31T23:59:59.999Z"
        );
    }

    #[test]
    fn rounds_down_to_a_millisecond() {
        let at = UNIX_EPOCH + Duration::from_nanos(1_999_999);

        assert_eq!(UnixMs::from(at).get(), 1);
    }
}
