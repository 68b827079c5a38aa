//! The wall clock, asked in one place.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time of day.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The time of day in milliseconds since 1970, as OpenClaw's protocol writes it.
#[must_use]
pub fn now_ms() -> u128 {
    now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}
