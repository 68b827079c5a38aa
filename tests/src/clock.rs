//! The time of day, for what a provider writes into its answers.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970. No test decides anything by it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock of the kit")]
pub fn unix_millis() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
