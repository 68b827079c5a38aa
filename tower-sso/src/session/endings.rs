use std::{
    collections::{HashMap, HashSet, VecDeque},
    error::Error,
    fmt,
    future::Future,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::oneshot::{Sender, channel},
    task::JoinHandle,
    time::{Instant, interval},
};

use super::{End, Ended, Key, Store, StoreError};
use crate::{CredentialKind, Identity, Reason, Verdicts, Verify, VerifyError, VerifyFuture};

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
    /// How often something new was heard.
    count: AtomicU64,
    listeners: Mutex<Listeners>,
}

/// Who waits for what ends.
#[derive(Default)]
struct Listeners {
    next: u64,
    waiting: HashMap<u64, (Arc<Identity>, Sender<()>)>,
    /// What was heard of late, the latest last: some of those it ends may only begin to wait.
    recent: VecDeque<(Instant, Arc<EndSet>)>,
}

/// A place among the listeners, given back when it is dropped.
struct Place {
    watch: Arc<Watch>,
    id: u64,
}

/// Endings that were heard at once. One identity is looked up in them in constant time, however many there are.
enum EndSet {
    These(HashSet<End>),
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

/// How long it is remembered what was heard: longer than any verification takes.
const RECENT: Duration = Duration::from_secs(60);

/// How long it may take from a verdict to who waits for its end.
const BEGINNING: Duration = Duration::from_millis(200);

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
            count: AtomicU64::new(0),
            listeners: Mutex::default(),
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
    /// To be called within 200 ms after the identity was verified: an ending that was heard in between ends it too. So
    /// who signs in anew that soon after an ending that names them as a user is told once that it is over.
    ///
    /// # Cancel safety
    ///
    /// What ends while the future is not polled is told when it is.
    pub fn ended(&self, identity: &Arc<Identity>) -> impl Future<Output = ()> + Send + use<> {
        let heard = &self.0.heard;
        let begun = Instant::now();
        let (tell, told) = channel();
        let id = {
            let mut listeners = heard.listeners();
            let is_over = listeners.ended_since(begun.checked_sub(BEGINNING), identity);
            // One that was disabled before is not told again.
            if is_over || self.is_disabled(identity.user_id()) {
                None
            } else {
                Some(listeners.add(Arc::clone(identity), tell))
            }
        };
        // The watch goes on as long as somebody listens.
        let place = id.map(|id| Place {
            watch: Arc::clone(&self.0),
            id,
        });
        async move {
            // An error says that whoever would have told is gone, or that this was over from the beginning.
            let _ = told.await;
            drop(place);
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
            self.tell(EndSet::These(fresh.into_iter().collect()));
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
        self.tell(EndSet::Everything);
        Ok(())
    }

    fn tell(&self, ended: EndSet) {
        self.verdicts.forget(|identity| ended.ends(identity));
        let mut listeners = self.listeners();
        self.count.fetch_add(1, Ordering::SeqCst);
        listeners.tell(ended);
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Listeners ===

impl Listeners {
    fn add(&mut self, identity: Arc<Identity>, tell: Sender<()>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.waiting.insert(id, (identity, tell));
        id
    }

    /// Tells those whom it ends, and no others.
    fn tell(&mut self, ended: EndSet) {
        // To drop what would tell is to tell.
        self.waiting
            .retain(|_, (identity, _)| !ended.ends(identity));
        let now = Instant::now();
        let is_old = |at: &Instant| now.duration_since(*at) > RECENT;
        while self.recent.front().is_some_and(|(at, _)| is_old(at)) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, Arc::new(ended)));
    }

    /// Whether something that was heard since then ends it.
    fn ended_since(&self, since: Option<Instant>, identity: &Identity) -> bool {
        let recent = self.recent.iter().rev();
        let mut recent = recent.take_while(|(at, _)| since.is_none_or(|since| *at >= since));
        recent.any(|(_, ended)| ended.ends(identity))
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.watch.heard.listeners().waiting.remove(&self.id);
    }
}

// === impl EndSet ===

impl EndSet {
    /// As [`End::ends_identity`] for any of them.
    fn ends(&self, identity: &Identity) -> bool {
        let Self::These(ended) = self else {
            return true;
        };
        let key = || identity.credential_id().and_then(Key::parse);
        let user = || Arc::clone(identity.user_id());
        let session = || {
            let session_id = identity.session_id()?;
            Some(End::IssuerSession {
                provider: identity.provider().into(),
                session_id: session_id.into(),
            })
        };
        let subject = || End::Subject {
            provider: identity.provider().into(),
            subject: Arc::clone(identity.subject()),
        };
        key().is_some_and(|key| ended.contains(&End::Key(key)))
            || ended.contains(&End::User(user()))
            || ended.contains(&End::Disabled(user()))
            || session().is_some_and(|session| ended.contains(&session))
            || (identity.kind() != CredentialKind::AccessToken && ended.contains(&subject()))
    }
}

// === impl Guarded ===

impl<V: Verify> Verify for Guarded<V> {
    fn verify(&self, token: &str) -> VerifyFuture {
        self.verify_from(token, None)
    }

    fn verify_from(&self, token: &str, address: Option<IpAddr>) -> VerifyFuture {
        let endings = self.endings.clone();
        let heard = &self.endings.0.heard;
        let (begun, count) = (Instant::now(), heard.count.load(Ordering::SeqCst));
        self.verifier
            .verify_from(token, address)
            .map(move |verdict| {
                let identity = verdict?;
                let heard = &endings.0.heard;
                // The verifier may have looked before it ended.
                let is_over = heard.count.load(Ordering::SeqCst) != count
                    && heard.listeners().ended_since(Some(begun), &identity);
                if is_over || endings.is_disabled(identity.user_id()) {
                    return Err(VerifyError::Invalid(Reason::Revoked));
                }
                Ok(identity)
            })
    }
}
