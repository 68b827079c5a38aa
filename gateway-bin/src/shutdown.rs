//! How the gateway ends: nobody new is taken, those who are there go one after the other, and what is under way ends.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The end of the gateway, which everything that serves people knows of; clones share it.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

struct Inner {
    has_begun: AtomicBool,
    waves: [CancellationToken; WAVES],
    next: AtomicUsize,
    end: CancellationToken,
}

/// In so many groups sockets are told to go. Of 9,000 sockets that is 35 at a time.
const WAVES: usize = 256;

/// From the wave of one socket to that of the next. It has no divisor in common with [`WAVES`] and is 0.62 of it: sockets that
/// were opened one after the other, however few, are spread evenly over the waves.
const STRIDE: usize = 159;

/// What each socket adds to the time in which they go. An OpenClaw tells everybody of everybody whenever somebody comes or goes:
/// with a hundred connections it takes about ten new ones in a second.
const EACH: Duration = Duration::from_millis(100);

// === impl Shutdown ===

impl Shutdown {
    /// An end that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            has_begun: AtomicBool::new(false),
            waves: std::array::from_fn(|_| CancellationToken::new()),
            next: AtomicUsize::new(0),
            end: CancellationToken::new(),
        }))
    }

    /// From here on nobody new is taken. What is under way goes on.
    pub fn begin(&self) {
        self.0.has_begun.store(true, Ordering::Release);
    }

    /// Whether nobody new is taken any more.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.has_begun.load(Ordering::Acquire)
    }

    /// What tells a socket to go; the next one is told at another time.
    #[must_use]
    pub fn wave(&self) -> CancellationToken {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let wave = self.0.waves.get(number.wrapping_mul(STRIDE) % WAVES);
        // The index is always in range; one that was not would go at the end.
        wave.unwrap_or(&self.0.end).clone()
    }

    /// Tells all sockets to go, of which there are `sockets`: evenly, within `limit`, and sooner if they are few.
    ///
    /// # Cancel safety
    ///
    /// Dropped, those that were not told yet stay.
    pub fn tell_sockets(
        &self,
        sockets: usize,
        limit: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let inner = Arc::clone(&self.0);
        let pause = spread(sockets, limit) / WAVES as u32;
        async move {
            let mut at = Instant::now();
            for wave in &inner.waves {
                wave.cancel();
                at += pause;
                sleep_until(at).await;
            }
        }
    }

    /// What ends everything that is still there.
    #[must_use]
    pub fn end(&self) -> CancellationToken {
        self.0.end.clone()
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("has_begun", &self.has_begun())
            .field("has_ended", &self.0.end.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// In what time so many sockets go.
fn spread(sockets: usize, limit: Duration) -> Duration {
    let sockets = u32::try_from(sockets).unwrap_or(u32::MAX);
    EACH.saturating_mul(sockets).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// When each of so many sockets, which were opened one after the other after `earlier` others, is told to go.
    async fn told(earlier: usize, sockets: usize) -> Vec<Duration> {
        let shutdown = Shutdown::new();
        (0..earlier).for_each(|_| drop(shutdown.wave()));
        let waiting: Vec<_> = (0..sockets)
            .map(|_| {
                let wave = shutdown.wave();
                tokio::spawn(async move {
                    wave.cancelled().await;
                    Instant::now()
                })
            })
            .collect();
        let begun = Instant::now();
        shutdown.tell_sockets(sockets, LIMIT).await;
        let mut times = Vec::new();
        for told in waiting {
            times.push(told.await.unwrap() - begun);
        }
        times.sort_unstable();
        times
    }

    #[tokio::test(start_paused = true)]
    async fn nine_thousand_sockets_go_evenly_and_in_time() {
        let times = told(0, 9_000).await;
        assert!(times.iter().all(|at| *at <= LIMIT));
        for second in 0..20 {
            let second = Duration::from_secs(second)..Duration::from_secs(second + 1);
            let gone = times
                .iter()
                .copied()
                .filter(|at| second.contains(at))
                .count();
            assert!((400..=500).contains(&gone), "{gone} in {second:?}");
        }
        let same = times.chunk_by(|a, b| a == b).map(<[_]>::len);
        assert!(same.max() <= Some(36), "at the same moment");
    }

    #[tokio::test(start_paused = true)]
    async fn few_sockets_go_soon_and_evenly_whichever_they_are() {
        for earlier in [0, 1, 7, 100, 255, 1_000] {
            let times = told(earlier, 40).await;
            let (first, last) = (times[0], times[39]);
            assert!(last <= EACH * 40, "{last:?}");
            assert!(last - first >= EACH * 36, "{first:?} to {last:?}");
            let most = times.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert!(most <= Some(EACH * 3), "{most:?} between two");
        }
        assert!(told(5, 1).await[0] <= EACH, "nobody waits for nobody");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_when_all_were_told_is_told_at_once() {
        let shutdown = Shutdown::new();
        shutdown.begin();
        shutdown.tell_sockets(0, LIMIT).await;
        assert!(shutdown.has_begun());
        assert!(shutdown.wave().is_cancelled());
        assert!(!shutdown.end().is_cancelled(), "what is under way goes on");
    }
}
