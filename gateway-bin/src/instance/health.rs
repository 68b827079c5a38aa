//! Whether people are sent to an instance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::dial::Dialer;

/// How often an instance is asked whether it is ready.
const ASK: Duration = Duration::from_secs(5);

/// How long it may take to say so.
const ANSWER: Duration = Duration::from_secs(3);

/// How often in a row it may take longer until it counts as not ready: one that is busy is late.
const LATE: u32 = 3;

/// How many failures in how long a time put an instance out of use, and for how long: as nginx has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Tolerance {
    /// Failures until it is out of use; zero: it never is.
    pub max_fails: u32,
    /// The time in which they are counted, and for which it stays out of use.
    pub fail_timeout: Duration,
}

/// What is known of an instance's health; clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tolerance: Tolerance,
    /// What it said when it was last asked.
    is_ready: AtomicBool,
    failures: Mutex<Failures>,
}

/// Connections for people that failed.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    /// The first of them.
    since: Option<Instant>,
    out_until: Option<Instant>,
}

// === impl Tolerance ===

impl Tolerance {
    /// So many failures in so long a time.
    #[must_use]
    pub const fn new(max_fails: u32, fail_timeout: Duration) -> Self {
        Self {
            max_fails,
            fail_timeout,
        }
    }
}

// === impl Health ===

impl Health {
    /// Good until something else is known.
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        Self {
            shared: Arc::new(Shared {
                tolerance,
                is_ready: AtomicBool::new(true),
                failures: Mutex::default(),
            }),
        }
    }

    /// Whether it said that it is ready when it was last asked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready.load(Ordering::Acquire)
    }

    /// Whether so many connections failed lately that nobody new is sent there, if there is another one.
    #[must_use]
    pub fn is_out(&self) -> bool {
        let out_until = self.failures().out_until;
        out_until.is_some_and(|until| until > Instant::now())
    }

    /// A connection for somebody failed.
    pub fn failed(&self) {
        let Tolerance {
            max_fails,
            fail_timeout,
        } = self.shared.tolerance;
        let now = Instant::now();
        let mut failures = self.failures();
        if failures
            .since
            .is_none_or(|since| since + fail_timeout <= now)
        {
            *failures = Failures {
                since: Some(now),
                ..Failures::default()
            };
        }
        failures.count = failures.count.saturating_add(1);
        if failures.count == max_fails {
            failures.out_until = Some(now + fail_timeout);
        }
    }

    /// A connection for somebody was opened.
    pub fn succeeded(&self) {
        *self.failures() = Failures::default();
    }

    /// Asks the instance for its readiness, again and again.
    pub(super) async fn watch(self, dialer: Arc<Dialer>) {
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let mut ticks = interval(ASK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut late = 0;
        loop {
            ticks.tick().await;
            let is_ready = match timeout(ANSWER, is_ready(&client, &dialer)).await {
                Ok(is_ready) => {
                    late = 0;
                    is_ready
                }
                Err(_) if late + 1 < LATE => {
                    late += 1;
                    continue;
                }
                Err(_) => false,
            };
            if self.shared.is_ready.swap(is_ready, Ordering::AcqRel) == is_ready {
                continue;
            }
            match is_ready {
                true => info!(instance = dialer.address(), "instance is ready again"),
                false => warn!(instance = dialer.address(), "instance is not ready"),
            }
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.shared
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn is_ready<C>(client: &Client<C, Empty<Bytes>>, dialer: &Dialer) -> bool
where
    C: hyper_util::client::legacy::connect::Connect + Clone + Send + Sync + 'static,
{
    let uri = format!("http://{}/readyz", dialer.address()).parse::<Uri>();
    let (Ok(uri), Ok(headers)) = (uri, dialer.headers(None, None)) else {
        return false;
    };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let answer = client.request(request).await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_A_MINUTE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn some_failures_in_a_row_put_it_out_of_use_for_a_while() {
        let health = Health::new(Tolerance::new(3, HALF_A_MINUTE));
        for _ in 0..2 {
            health.failed();
            assert!(!health.is_out());
        }
        health.failed();
        assert!(health.is_out());
        tokio::time::advance(HALF_A_MINUTE).await;
        assert!(!health.is_out(), "it is tried again");
        health.failed();
        assert!(!health.is_out(), "and has three again");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_far_apart_or_with_a_success_between_do_not() {
        let health = Health::new(Tolerance::new(2, HALF_A_MINUTE));
        health.failed();
        tokio::time::advance(HALF_A_MINUTE).await;
        health.failed();
        assert!(!health.is_out());
        health.succeeded();
        health.failed();
        assert!(!health.is_out());
        let never = Health::new(Tolerance::new(0, HALF_A_MINUTE));
        for _ in 0..10 {
            never.failed();
        }
        assert!(!never.is_out());
    }
}
