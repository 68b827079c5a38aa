use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    record::{Key, Kind, Record},
    store::{End, Ended, Lease, Store, StoreError, StoreFuture},
};
use crate::jwt::{Clock, SystemClock};

/// Sessions in the memory of this process: gone when it ends, and no other server's.
///
/// What has expired is forgotten from time to time while others are added. Cheap to clone; clones
/// share the records.
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: HashMap<Key, Held>,
    /// Which records each name ends.
    named: HashMap<Name, HashSet<Key>>,
    ended: Vec<(SystemTime, Ended)>,
    next_id: u64,
    disabled: Vec<Arc<str>>,
    claims: HashMap<Key, SystemTime>,
    /// How many records and claims there may be before those that have expired are looked for.
    sweep_at: usize,
}

struct Held {
    record: Record,
    lease: Option<(u128, SystemTime)>,
}

/// Whom or what records are of.
#[derive(Eq, Hash, PartialEq)]
enum Name {
    User(Arc<str>),
    IssuerSession(Arc<str>, Arc<str>),
    Subject(Arc<str>, Arc<str>),
}

/// How long it is kept what was ended.
const KEPT: Duration = Duration::from_secs(3_600);

/// Most records that are listed.
const LISTED: usize = 1_000;

// === impl MemoryStore ===

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty store that goes by this clock.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            clock,
            state: Mutex::default(),
        }))
    }

    /// Everything happens at once, under the lock.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut State, SystemTime) -> Result<T, StoreError>,
    ) -> StoreFuture<T> {
        let now = self.0.clock.now();
        StoreFuture::ready(work(&mut self.lock(), now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.lock().records.len())
            .finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn insert(&self, record: Record) -> StoreFuture<()> {
        self.with(|state, now| {
            state.sweep(now);
            if state.live(record.key, now).is_some() {
                return Err(StoreError::new("the key is taken"));
            }
            // What has expired and was not swept.
            state.remove(record.key);
            for name in Name::all_of(&record) {
                state.named.entry(name).or_default().insert(record.key);
            }
            let lease = None;
            state.records.insert(record.key, Held { record, lease });
            Ok(())
        })
    }

    fn find(&self, key: Key) -> StoreFuture<Option<Record>> {
        self.with(|state, now| Ok(state.live(key, now).map(|held| held.record.clone())))
    }

    fn touch(&self, key: Key, seen_at: SystemTime, expires_at: SystemTime) -> StoreFuture<bool> {
        self.with(|state, now| {
            Ok(state.live(key, now).is_some_and(|held| {
                let record = &mut held.record;
                record.seen_at = record.seen_at.max(seen_at);
                record.expires_at = record.expires_at.max(expires_at);
                true
            }))
        })
    }

    fn replace(&self, key: Key, version: u64, data: Bytes) -> StoreFuture<bool> {
        self.with(|state, now| {
            let held = state.live(key, now);
            Ok(held
                .filter(|held| held.record.version == version)
                .is_some_and(|held| {
                    held.record.version = version.wrapping_add(1);
                    held.record.data = data;
                    held.lease = None;
                    true
                }))
        })
    }

    fn lease(&self, key: Key, holder: u128, length: Duration) -> StoreFuture<Lease> {
        self.with(|state, now| {
            let Some(held) = state.live(key, now) else {
                return Ok(Lease::Refused);
            };
            let lease = match held.lease {
                Some((other, until)) if other != holder && until > now => Lease::Refused,
                Some((other, _)) if other != holder => Lease::TakenOver,
                _ => Lease::Granted,
            };
            if lease.is_held() {
                held.lease = Some((holder, now.checked_add(length).unwrap_or(now)));
            }
            Ok(lease)
        })
    }

    fn release(&self, key: Key, holder: u128) -> StoreFuture<()> {
        self.with(|state, now| {
            if let Some(held) = state.live(key, now)
                && held.lease.is_some_and(|(of, _)| of == holder)
            {
                held.lease = None;
            }
            Ok(())
        })
    }

    fn list(&self, user_id: &str, kind: Kind) -> StoreFuture<Vec<Record>> {
        let name = Name::User(user_id.into());
        self.with(|state, now| {
            let keys = state.named.get(&name).into_iter().flatten();
            let all = keys.filter_map(|key| state.records.get(key));
            let mut found: Vec<Record> = all
                .map(|held| &held.record)
                .filter(|record| record.kind == kind && record.expires_at > now)
                .cloned()
                .collect();
            found.sort_by_key(|record| (record.created_at, record.key));
            found.reverse();
            found.truncate(LISTED);
            Ok(found)
        })
    }

    fn end(&self, what: End) -> StoreFuture<u64> {
        self.with(|state, now| Ok(state.end(what, now)))
    }

    fn ended(&self, within: Duration) -> StoreFuture<Vec<Ended>> {
        self.with(|state, now| {
            let since = now.checked_sub(within).unwrap_or(SystemTime::UNIX_EPOCH);
            let ended = state.ended.iter().filter(|(at, _)| *at >= since);
            Ok(ended.map(|(_, what)| what.clone()).collect())
        })
    }

    fn set_disabled(&self, user_id: &str, disabled: bool) -> StoreFuture<()> {
        let user_id: Arc<str> = user_id.into();
        self.with(|state, now| {
            state.disabled.retain(|other| *other != user_id);
            if disabled {
                state.disabled.push(Arc::clone(&user_id));
                state.end(End::Disabled(user_id), now);
            } else {
                state.end(End::Enabled(user_id), now);
            }
            Ok(())
        })
    }

    fn disabled(&self) -> StoreFuture<Vec<Arc<str>>> {
        self.with(|state, _| Ok(state.disabled.clone()))
    }

    fn claim(&self, what: Key, until: SystemTime) -> StoreFuture<bool> {
        self.with(|state, now| {
            state.sweep(now);
            if state.claims.get(&what).is_some_and(|until| *until > now) {
                return Ok(false);
            }
            state.claims.insert(what, until);
            Ok(true)
        })
    }
}

// === impl State ===

impl State {
    fn live(&mut self, key: Key, now: SystemTime) -> Option<&mut Held> {
        let held = self.records.get_mut(&key);
        held.filter(|held| held.record.expires_at > now)
    }

    fn end(&mut self, what: End, now: SystemTime) -> u64 {
        let named = match &what {
            End::Key(key) => vec![*key],
            End::Enabled(_) => Vec::new(),
            End::User(user_id) | End::Disabled(user_id) => {
                self.keys_of(&Name::User(Arc::clone(user_id)))
            }
            End::IssuerSession {
                provider,
                session_id,
            } => self.keys_of(&Name::IssuerSession(
                Arc::clone(provider),
                Arc::clone(session_id),
            )),
            End::Subject { provider, subject } => {
                self.keys_of(&Name::Subject(Arc::clone(provider), Arc::clone(subject)))
            }
        };
        let mut gone = 0;
        for key in named {
            let is_meant = |held: &Held| what.ends(&held.record);
            if self.records.get(&key).is_some_and(is_meant) {
                self.remove(key);
                gone += 1;
            }
        }
        self.ended
            .retain(|(at, _)| now.duration_since(*at).is_ok_and(|age| age <= KEPT));
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.ended.push((now, Ended { id, what }));
        gone
    }

    fn keys_of(&self, name: &Name) -> Vec<Key> {
        self.named
            .get(name)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    fn remove(&mut self, key: Key) {
        let Some(held) = self.records.remove(&key) else {
            return;
        };
        for name in Name::all_of(&held.record) {
            if let Some(keys) = self.named.get_mut(&name) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.named.remove(&name);
                }
            }
        }
    }

    /// Forgets what has expired, each time that there is twice as much as was left the last time.
    fn sweep(&mut self, now: SystemTime) {
        let held = self.records.len().saturating_add(self.claims.len());
        if held < self.sweep_at {
            return;
        }
        let records = self.records.iter();
        let over = records.filter(|(_, held)| held.record.expires_at <= now);
        for key in over.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.remove(key);
        }
        self.claims.retain(|_, until| *until > now);
        let left = self.records.len().saturating_add(self.claims.len());
        self.sweep_at = left.saturating_mul(2).max(1_024);
    }
}

// === impl Name ===

impl Name {
    fn all_of(record: &Record) -> impl Iterator<Item = Self> + use<> {
        let provider = || Arc::clone(&record.provider);
        let session_id = record.session_id.as_ref();
        [
            Some(Self::User(Arc::clone(&record.user_id))),
            Some(Self::Subject(provider(), Arc::clone(&record.subject))),
            session_id.map(|session_id| Self::IssuerSession(provider(), Arc::clone(session_id))),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_of_records_that_were_ended_or_swept() {
        let store = MemoryStore::new();
        let record = |n: u8, seconds| Record {
            key: Key::from_bytes([n; 32]),
            kind: Kind::Session,
            user_id: format!("user {}", n % 2).into(),
            provider: "corp".into(),
            subject: format!("subject {n}").into(),
            session_id: n.is_multiple_of(3).then(|| "sid".into()),
            created_at: SystemTime::UNIX_EPOCH,
            seen_at: SystemTime::UNIX_EPOCH,
            expires_at: SystemClock.now() + Duration::from_secs(seconds),
            version: 0,
            data: Bytes::new(),
        };
        for n in 0..40 {
            store.insert(record(n, 60)).await.unwrap();
        }
        let ended = store.end(End::User("user 0".into())).await.unwrap();
        assert_eq!(ended, 20);
        let what = End::IssuerSession {
            provider: "corp".into(),
            session_id: "sid".into(),
        };
        assert_eq!(store.end(what).await.unwrap(), 7);
        assert_eq!(
            store.end(End::Key(Key::from_bytes([1; 32]))).await.unwrap(),
            1
        );
        let mut state = store.lock();
        assert_eq!(state.records.len(), 12);
        let named: usize = state.named.values().map(HashSet::len).sum();
        assert_eq!(named, 24, "a user and a subject each");
        state.sweep_at = 0;
        state.sweep(SystemClock.now() + Duration::from_secs(61));
        assert!(state.records.is_empty() && state.named.is_empty());
    }
}
