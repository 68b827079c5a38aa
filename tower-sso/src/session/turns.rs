use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep, timeout},
};

use super::{Key, Kind, Record, Store, StoreError, content::to_millis, random};
use crate::jwt::{Clock as _, SystemClock};

/// Lets what is asked for one user happen one after the other, at all servers that share a store: by the lease
/// on a record that is there for nothing else.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<[Mutex<()>]>);

/// Nobody else has a turn for this user until it ends, or for [`LEASE`].
pub(super) struct Turn<'a> {
    key: Key,
    holder: u128,
    begun: Instant,
    _here: Option<MutexGuard<'a, ()>>,
}

/// One for each first byte of a key. Of all who wait at a place, one asks the store.
const PLACES: usize = 256;

/// How long a turn lasts if whoever had it died.
const LEASE: Duration = Duration::from_secs(8);

/// How long a turn is good for what takes two seconds more, as an operation of a store does.
const GOOD: Duration = Duration::from_secs(5);

/// How long a turn is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often another server's turn is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// How long the record is kept; it is made anew then.
const KEPT: Duration = Duration::from_secs(400 * 86_400);

// === impl Turns ===

impl Turns {
    pub(super) fn new() -> Self {
        Self((0..PLACES).map(|_| Mutex::new(())).collect())
    }

    /// Waits for a turn.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer, or there is no turn within ten seconds.
    pub(super) async fn take(
        &self,
        store: &dyn Store,
        user_id: &str,
    ) -> Result<Turn<'_>, StoreError> {
        let key = Key::of_secret(format!("turn of {user_id}").as_bytes());
        let [byte, ..] = *key.as_bytes();
        let holder = u128::from_be_bytes(random()?);
        let waited = async {
            let place = self.0.get(usize::from(byte));
            let here = match place {
                Some(place) => Some(place.lock().await),
                None => None,
            };
            loop {
                let begun = Instant::now();
                if store.lease(key, holder, LEASE).await?.is_held() {
                    return Ok(Turn {
                        key,
                        holder,
                        begun,
                        _here: here,
                    });
                }
                let is_there = store.find(key).await?.is_some();
                // Another may be faster: then the key is taken, which is no error here.
                if is_there || store.insert(record(key)).await.is_err() {
                    sleep(LOOK).await;
                }
            }
        };
        match timeout(PATIENCE, waited).await {
            Ok(turn) => turn,
            Err(elapsed) => Err(StoreError::new(elapsed)),
        }
    }
}

/// Nobody's, and nothing that verifies.
fn record(key: Key) -> Record {
    let now = to_millis(SystemClock.now());
    Record {
        key,
        kind: Kind::AccessToken,
        user_id: "".into(),
        provider: "".into(),
        subject: "".into(),
        session_id: None,
        created_at: now,
        seen_at: now,
        expires_at: now.checked_add(KEPT).unwrap_or(now),
        version: 0,
        data: Bytes::new(),
    }
}

// === impl Turn ===

impl Turn<'_> {
    /// Whether there is time for one operation more.
    pub(super) fn is_good(&self) -> bool {
        self.begun.elapsed() < GOOD
    }

    /// Gives it to the next.
    pub(super) async fn end(self, store: &dyn Store) {
        // Or else it ends by itself.
        let _ = store.release(self.key, self.holder).await;
    }
}
