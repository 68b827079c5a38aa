//! Time as a process has it that the machine keeps waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often it is looked whether the machine still runs us.
const TICK: Duration = Duration::from_millis(10);

/// Measures how long something takes, without the time that the machine did not run even a thread that only sleeps: a
/// bound of a second is then one of what is tested, and not of its neighbours.
#[derive(Debug)]
pub struct Stopwatch {
    begun: Instant,
    stalled: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

// === impl Stopwatch ===

impl Stopwatch {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Self {
        let stopwatch = Self {
            begun: Instant::now(),
            stalled: Arc::default(),
            stop: Arc::default(),
        };
        let (stalled, stop) = (Arc::clone(&stopwatch.stalled), Arc::clone(&stopwatch.stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let from = Instant::now();
                thread::park_timeout(TICK);
                let late = from.elapsed().saturating_sub(2 * TICK);
                let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
                stalled.fetch_add(late, Ordering::Relaxed);
            }
        });
        stopwatch
    }

    /// The time since the start, without what the machine kept us waiting.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let stalled = Duration::from_micros(self.stalled.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(stalled)
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
