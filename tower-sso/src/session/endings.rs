use std::{
    collections::HashSet,
    error::Error,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::broadcast::{Receiver, Sender, channel, error::RecvError},
    task::JoinHandle,
    time::{Instant, interval},
};

use super::{End, Ended, Store, StoreError};
use crate::{Identity, Reason, Verdicts, Verify, VerifyError, VerifyFuture};

/// Hears what ends, here and at every server that shares the store, within half a second.
///
/// It asks the store from time to time. What has ended is taken out of the verdicts and told to whoever
/// [waits](Self::ended) for it; users who are disabled are known without a question. A store that does
/// not answer is asked again; when it has not answered for an hour, everything has ended, since it
/// cannot be known what has.
///
/// Cheap to clone. Asking stops when the last clone is dropped.
#[derive(Clone)]
pub struct Endings(Arc<Watch>);

struct Watch {
    heard: Arc<Heard>,
    task: JoinHandle<()>,
}

struct Heard {
    store: Arc<dyn Store>,
    verdicts: Verdicts,
    disabled: ArcSwap<HashSet<Arc<str>>>,
    /// What was told, so that it is not told each time that the store names it.
    told: Mutex<HashSet<u64>>,
    tell: Sender<Told>,
}

#[derive(Clone)]
enum Told {
    One(End),
    Everything,
}

/// Verifies by another verifier, and refuses who is disabled. See [`Endings::guard`].
#[derive(Clone, Debug)]
pub struct Guarded<V> {
    endings: Endings,
    verifier: V,
}

/// How often the store is asked.
const ASK: Duration = Duration::from_millis(300);

/// How far back is asked besides the time since the last answer: clocks and transactions overlap.
const OVERLAP: Duration = Duration::from_secs(10);

/// How long a store keeps what has ended.
const KEPT: Duration = Duration::from_secs(3_600 - 60);

/// How much may be told to who is slow to hear; who has missed something is told that everything ends.
const BACKLOG: usize = 4_096;

// === impl Endings ===

impl Endings {
    /// Begins to listen, on the current Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not say who is disabled: nobody should be let in before.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn start(store: Arc<dyn Store>, verdicts: Verdicts) -> Result<Self, StoreError> {
        let disabled = store.disabled().await?;
        let heard = Arc::new(Heard {
            store,
            verdicts,
            disabled: ArcSwap::from_pointee(disabled.into_iter().collect()),
            told: Mutex::default(),
            tell: channel(BACKLOG).0,
        });
        let task = tokio::spawn(Arc::clone(&heard).listen());
        Ok(Self(Arc::new(Watch { heard, task })))
    }

    /// Whether a user is disabled.
    #[must_use]
    pub fn is_disabled(&self, user_id: &str) -> bool {
        self.0.heard.disabled.load().contains(user_id)
    }

    /// Resolves when what this identity was verified by has ended. Time alone ends nothing here: see
    /// [`Identity::expires_at`].
    ///
    /// # Cancel safety
    ///
    /// What ends while the future is not polled is told when it is.
    pub fn ended(&self, identity: &Arc<Identity>) -> impl Future<Output = ()> + Send + use<> {
        let mut told = self.0.heard.tell.subscribe();
        // One that was disabled just before is not told again.
        let disabled = self.is_disabled(identity.user_id());
        let identity = Arc::clone(identity);
        // The watch goes on as long as somebody listens.
        let watch = Arc::clone(&self.0);
        async move {
            if !disabled {
                hears(&mut told, &identity).await;
            }
            drop(watch);
        }
    }

    /// A verifier that asks `verifier` and refuses users who are disabled
    /// ([`Reason::Revoked`]).
    pub fn guard<V: Verify>(&self, verifier: V) -> Guarded<V> {
        Guarded {
            endings: self.clone(),
            verifier,
        }
    }
}

impl fmt::Debug for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endings")
            .field("disabled", &self.0.heard.disabled.load().len())
            .finish_non_exhaustive()
    }
}

async fn hears(told: &mut Receiver<Told>, identity: &Identity) {
    loop {
        match told.recv().await {
            Ok(Told::One(what)) if !what.ends_identity(identity) => {}
            // Who has missed something cannot know that it was not theirs.
            Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => return,
        }
    }
}

// === impl Watch ===

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Heard ===

impl Heard {
    async fn listen(self: Arc<Self>) {
        let mut ticks = interval(ASK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut answered = Instant::now();
        let mut silent = false;
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            let since = answered.elapsed();
            let within = since.saturating_add(OVERLAP);
            let heard = match self.store.ended(within).await {
                Ok(_) if within > KEPT => self.hear_everything().await,
                Ok(ended) => self.hear_all(ended).await,
                Err(error) => Err(error),
            };
            match heard {
                Ok(()) => {
                    answered = asked;
                    silent = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut silent, true) {
                        tracing::warn!(
                            error = &error as &(dyn Error + 'static),
                            "the store does not say what has ended"
                        );
                    }
                }
            }
        }
    }

    /// Tells what is new of what the store names.
    async fn hear_all(&self, ended: Vec<Ended>) -> Result<(), StoreError> {
        let named: HashSet<u64> = ended.iter().map(|ended| ended.id).collect();
        let fresh: Vec<End> = {
            let told = self.told();
            let fresh = ended.into_iter().filter(|ended| !told.contains(&ended.id));
            fresh.map(|ended| ended.what).collect()
        };
        // In which order they were said is not known, so the store is asked what holds.
        let is_about_users = |what: &End| matches!(what, End::Disabled(_) | End::Enabled(_));
        if fresh.iter().any(is_about_users) {
            let disabled = self.store.disabled().await?;
            self.disabled
                .store(Arc::new(disabled.into_iter().collect()));
        }
        if !fresh.is_empty() {
            self.verdicts
                .forget(|identity| fresh.iter().any(|what| what.ends_identity(identity)));
        }
        for what in fresh {
            // Nobody may be waiting.
            let _ = self.tell.send(Told::One(what));
        }
        *self.told() = named;
        Ok(())
    }

    fn told(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn hear_everything(&self) -> Result<(), StoreError> {
        tracing::warn!("the store was silent for too long; everybody is verified anew");
        let disabled = self.store.disabled().await?;
        self.disabled
            .store(Arc::new(disabled.into_iter().collect()));
        self.verdicts.forget(|_| true);
        let _ = self.tell.send(Told::Everything);
        Ok(())
    }
}

// === impl Guarded ===

impl<V: Verify> Verify for Guarded<V> {
    fn verify(&self, token: &str) -> VerifyFuture {
        let endings = self.endings.clone();
        self.verifier.verify(token).map(move |verdict| {
            let identity = verdict?;
            if endings.is_disabled(identity.user_id()) {
                return Err(VerifyError::Invalid(Reason::Revoked));
            }
            Ok(identity)
        })
    }
}
