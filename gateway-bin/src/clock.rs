//! The wall clock, asked in one place.

use std::time::SystemTime;

/// The time of day.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> SystemTime {
    SystemTime::now()
}
