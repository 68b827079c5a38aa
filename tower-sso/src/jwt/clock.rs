use std::time::SystemTime;

/// Says what time it is, for `exp`, `nbf` and `iat`. A closure is a clock too.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_sso::jwt::Clock;
///
/// let stopped = || SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
/// assert_eq!(stopped.now(), stopped.now());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a clock",
    note = "a closure `Fn() -> SystemTime` that is `Send + Sync + 'static` is a clock"
)]
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The clock of the system, the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

// === impl Clock ===

impl<F> Clock for F
where
    F: Fn() -> SystemTime + Send + Sync + 'static,
{
    fn now(&self) -> SystemTime {
        self()
    }
}

// === impl SystemClock ===

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock of the crate")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
