use std::{
    error::Error,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use bytes::Bytes;
use tokio::{runtime::Handle, sync::watch, time::Instant};

use super::{
    config::{ConfigError, JwtConfig},
    discovery::{Discovery, DiscoveryError},
    key_set::KeySet,
};
use crate::{HttpClient, verdicts::Era};

/// The keys of an issuer, fetched when needed and kept fresh.
///
/// Intervals are measured on the monotonic clock: setting the system's clock neither stops a refresh
/// nor starts one.
#[derive(Debug)]
pub(super) struct Remote {
    discovery: Discovery,
    cool_down: Duration,
    key_ttl: Duration,
    stale_for: Duration,
    held: ArcSwapOption<Held>,
    /// Ends when other keys are held: what earlier ones verified must be asked anew.
    era: Era,
    pace: Mutex<Pace>,
    finished: watch::Sender<()>,
    refreshes: AtomicU64,
    failed: AtomicU64,
}

/// What the keys at hand are worth.
#[derive(Debug)]
pub(super) enum Standing {
    Current(Arc<KeySet>),
    /// Too old to be used before the issuer was asked.
    Expired(Arc<KeySet>),
    Missing,
}

/// A refresh under way.
#[derive(Debug)]
pub(super) struct Refresh(watch::Receiver<()>);

#[derive(Debug)]
struct Held {
    keys: Arc<KeySet>,
    document: Digest,
    fetched: Instant,
}

/// When the issuer may be asked again.
#[derive(Debug, Default)]
struct Pace {
    in_flight: bool,
    /// Failures since the last success.
    failures: u32,
    not_before: Option<Instant>,
}

/// One attempt to fetch the keys. However it ends, it ends in `drop`: waiting requests go on even if
/// the task is cancelled or panics.
struct Attempt {
    remote: Arc<Remote>,
    succeeded: bool,
}

/// The first pause while there are no keys at all; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

// === impl Remote ===

impl Remote {
    pub(super) fn new(
        config: &JwtConfig,
        client: Arc<dyn HttpClient>,
        era: Era,
    ) -> Result<Self, ConfigError> {
        Self::of_document(config, None, client, era)
    }

    /// The keys of an issuer whose discovery document calls it by another name.
    pub(super) fn of_document(
        config: &JwtConfig,
        documented: Option<&str>,
        client: Arc<dyn HttpClient>,
        era: Era,
    ) -> Result<Self, ConfigError> {
        let mut discovery = Discovery::new(Arc::clone(&config.issuer), client)?;
        if let Some(issuer) = documented {
            discovery.expect_issuer(issuer);
        }
        Ok(Self {
            discovery,
            cool_down: config.cool_down,
            key_ttl: config.key_ttl,
            stale_for: config.stale_for,
            held: ArcSwapOption::empty(),
            era,
            pace: Mutex::default(),
            finished: watch::Sender::new(()),
            refreshes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Looks at the keys at hand, and begins to renew them in the background if it is time.
    pub(super) fn standing(self: &Arc<Self>) -> Standing {
        let Some(held) = self.held.load_full() else {
            return Standing::Missing;
        };
        let age = held.fetched.elapsed();
        if age >= self.key_ttl.saturating_add(self.stale_for) {
            return Standing::Missing;
        }
        let keys = Arc::clone(&held.keys);
        if age >= self.key_ttl && self.pace().failures == 0 {
            return Standing::Expired(keys);
        }
        if age >= self.key_ttl / 2 {
            // Nobody waits for it: requests go on with what there is.
            let _ = self.refresh();
        }
        Standing::Current(keys)
    }

    /// Begins a refresh, or joins the one under way. `None` if the issuer must not be asked yet.
    pub(super) fn refresh(self: &Arc<Self>) -> Option<Refresh> {
        let runtime = Handle::try_current().ok()?;
        let (refresh, begin) = {
            let mut pace = self.pace();
            if !pace.in_flight && pace.not_before.is_some_and(|until| Instant::now() < until) {
                return None;
            }
            let begin = !pace.in_flight;
            pace.in_flight = true;
            (Refresh(self.finished.subscribe()), begin)
        };
        if begin {
            let attempt = Attempt {
                remote: Arc::clone(self),
                succeeded: false,
            };
            runtime.spawn(attempt.run());
        }
        Some(refresh)
    }

    /// How many refreshes were begun, and how many of them failed.
    pub(super) fn refreshes(&self) -> (u64, u64) {
        (
            self.refreshes.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }

    fn hold(&self, document: &Bytes) -> Result<(), DiscoveryError> {
        let hash = digest(&SHA256, document);
        let held = self.held.load();
        let keys = match held.as_ref() {
            Some(held) if held.document.as_ref() == hash.as_ref() => Arc::clone(&held.keys),
            _ => Arc::new(KeySet::parse(document).ok_or(DiscoveryError::NoKeys)?),
        };
        let is_other = held
            .as_ref()
            .is_none_or(|held| !Arc::ptr_eq(&held.keys, &keys));
        self.held.store(Some(Arc::new(Held {
            keys,
            document: hash,
            fetched: Instant::now(),
        })));
        // Last: who notices the new era finds the new keys.
        if is_other {
            self.era.end();
        }
        Ok(())
    }

    fn finish(&self, succeeded: bool) {
        if !succeeded {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.discovery.forget();
        }
        let has_keys = self.held.load().is_some();
        {
            let mut pace = self.pace();
            let pause = if succeeded || has_keys {
                self.cool_down
            } else {
                let doubled = FIRST_PAUSE.saturating_mul(1 << pace.failures.min(16));
                doubled.min(self.cool_down)
            };
            pace.failures = if succeeded {
                0
            } else {
                pace.failures.saturating_add(1)
            };
            pace.not_before = Instant::now().checked_add(pause);
            pace.in_flight = false;
        }
        self.finished.send_replace(());
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Refresh ===

impl Refresh {
    /// Waits until the refresh has ended, well or not.
    pub(super) async fn ended(mut self) {
        // An error says that the sender is gone: then it has ended as well.
        let _ = self.0.changed().await;
    }
}

// === impl Attempt ===

impl Attempt {
    async fn run(mut self) {
        self.remote.refreshes.fetch_add(1, Ordering::Relaxed);
        let discovery = &self.remote.discovery;
        let result = discovery.fetch_keys().await;
        match result.and_then(|document| self.remote.hold(&document)) {
            Ok(()) => self.succeeded = true,
            Err(error) => tracing::warn!(
                issuer = discovery.issuer(),
                error = &error as &(dyn Error + 'static),
                "the keys of the issuer could not be renewed"
            ),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.remote.finish(self.succeeded);
    }
}
