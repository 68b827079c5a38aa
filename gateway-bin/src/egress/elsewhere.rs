use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower_sso::{Identity, Reason, VerifyError};
use tracing::warn;

use super::VirtualKeys;
use crate::store::Store;

/// Where keys are that other gateways have made and that are not known here yet. Anybody can make up keys, so asking is
/// bounded: per key, at a time, and in what is remembered.
pub(super) struct Elsewhere {
    store: Store,
    /// By hash: what is being asked, and what nobody knew a moment ago.
    asked: Arc<Mutex<HashMap<[u8; 32], Asked>>>,
    places: Arc<Semaphore>,
}

struct Asked {
    at: Instant,
    answer: Shared<BoxFuture<'static, Answer>>,
}

type Answer = Result<Arc<Identity>, VerifyError>;

/// For how long it is remembered that nobody knew a key.
const REMEMBERED: Duration = Duration::from_secs(10);

/// How many keys are remembered; then all are asked about anew.
const KEYS: usize = 10_000;

/// How many questions the store is asked at a time.
const QUESTIONS: usize = 64;

// === impl Elsewhere ===

impl Elsewhere {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            asked: Arc::default(),
            places: Arc::new(Semaphore::new(QUESTIONS)),
        }
    }

    /// Whose key this is, if another gateway has made it; `keys` know it then. However many ask about one at a time, the
    /// store is asked once, and to the end even if nobody waits any longer.
    pub(super) fn find(&self, hash: [u8; 32], keys: VirtualKeys) -> BoxFuture<'static, Answer> {
        let now = Instant::now();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |asked: &&Asked| now.duration_since(asked.at) < REMEMBERED;
        if let Some(asked) = asked.get(&hash).filter(is_recent) {
            return asked.answer.clone().boxed();
        }
        let (Ok(place), Ok(runtime)) = (
            Arc::clone(&self.places).try_acquire_owned(),
            Handle::try_current(),
        ) else {
            return std::future::ready(Err(VerifyError::Unavailable)).boxed();
        };
        if asked.len() >= KEYS {
            asked.clear();
        }
        let (store, others) = (self.store.clone(), Arc::clone(&self.asked));
        let answer = runtime.spawn(async move {
            let found = store.find_virtual_key(hash).await;
            drop(place);
            let unknown = Err(VerifyError::Invalid(Reason::UnknownKey));
            let answer = match found {
                Ok(Some(row)) => {
                    keys.admit(&row);
                    keys.find_owner(&hash).map_or(unknown, Ok)
                }
                Ok(None) => return unknown,
                Err(error) => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    warn!(error, "the store does not say whose a virtual key is");
                    Err(VerifyError::Unavailable)
                }
            };
            // A key that there is may be revoked at any time, and a store that was away may be back.
            let mut others = others.lock().unwrap_or_else(PoisonError::into_inner);
            others.remove(&hash);
            answer
        });
        let answer = answer
            .map(|answer| answer.unwrap_or(Err(VerifyError::Unavailable)))
            .boxed()
            .shared();
        let waiting = answer.clone().boxed();
        asked.insert(hash, Asked { at: now, answer });
        waiting
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::{advance, pause, resume};
    use tower_sso::Verify;

    use super::super::MintedKey;
    use super::*;
    use crate::store::testing::{Database, client, environment, person};

    const UNKNOWN: VerifyError = VerifyError::Invalid(Reason::UnknownKey);

    async fn keep(store: &Store, minted: &MintedKey) {
        let user_id = &minted.row.user_id;
        store.put_user(&person(user_id)).await.unwrap();
        let put = store.put_environment(environment(user_id), minted.row.clone());
        put.await.unwrap();
    }

    #[tokio::test]
    async fn a_key_that_nobody_knows_is_asked_about_once_in_ten_seconds() {
        let Some(database) = Database::new().await else {
            return;
        };
        let store = database.store().await;
        let elsewhere = Elsewhere::new(store.clone());
        let keys = VirtualKeys::default();
        let minted = keys.mint(&"alice".into()).unwrap();
        let find = || elsewhere.find(minted.row.hash, keys.clone());
        assert_eq!(find().await.unwrap_err(), UNKNOWN);
        keep(&store, &minted).await;
        assert_eq!(find().await.unwrap_err(), UNKNOWN, "not asked again");
        pause();
        advance(REMEMBERED).await;
        resume();
        let found = join_all([find(), find(), find()]).await;
        for found in found {
            assert_eq!(&**found.unwrap().user_id(), "alice");
        }
        let known = keys.verify(minted.key.expose()).await;
        assert!(known.is_ok(), "it is in force here from now on");
        let asked = elsewhere.asked.lock().unwrap().len();
        assert_eq!(asked, 0, "a key that there is is not remembered");
        database.end().await;
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_refuses_nobody() {
        let Some(database) = Database::new().await else {
            return;
        };
        let store = database.store().await;
        let elsewhere = Elsewhere::new(store.clone());
        let keys = VirtualKeys::default();
        let minted = keys.mint(&"alice".into()).unwrap();
        keep(&store, &minted).await;
        let mut other = client(&database.url).await;
        let locking = other.transaction().await.unwrap();
        let lock = "LOCK TABLE virtual_keys IN ACCESS EXCLUSIVE MODE";
        locking.batch_execute(lock).await.unwrap();
        let questions: Vec<_> = (0..100)
            .map(|n| match n {
                0 => elsewhere.find(minted.row.hash, keys.clone()),
                n => elsewhere.find([n; 32], keys.clone()),
            })
            .collect();
        let asked = elsewhere.asked.lock().unwrap().len();
        assert_eq!(asked, QUESTIONS, "the others have no place");
        for answer in join_all(questions).await {
            assert_eq!(answer.unwrap_err(), VerifyError::Unavailable);
        }
        locking.rollback().await.unwrap();
        let found = elsewhere.find(minted.row.hash, keys.clone()).await;
        assert!(found.is_ok(), "it is asked again at once");
        database.end().await;
    }

    #[tokio::test]
    async fn what_is_remembered_of_made_up_keys_is_bounded() {
        let Some(database) = Database::new().await else {
            return;
        };
        let elsewhere = Elsewhere::new(database.store().await);
        let keys = VirtualKeys::default();
        for n in 0..=KEYS {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            let known = std::future::ready(Err(UNKNOWN)).boxed().shared();
            let known = Asked {
                at: Instant::now(),
                answer: known,
            };
            let mut asked = elsewhere.asked.lock().unwrap();
            if n < KEYS {
                asked.insert(hash, known);
                continue;
            }
            drop(asked);
            assert_eq!(
                elsewhere.find(hash, keys.clone()).await.unwrap_err(),
                UNKNOWN
            );
        }
        assert_eq!(elsewhere.asked.lock().unwrap().len(), 1);
        database.end().await;
    }

    #[tokio::test]
    async fn what_does_not_look_like_a_key_is_not_asked_about() {
        let Some(database) = Database::new().await else {
            return;
        };
        let keys = VirtualKeys::load(database.store().await).await.unwrap();
        let minted = keys.mint(&"alice".into()).unwrap();
        let key = minted.key.expose();
        for token in ["", "ocg-vk-", &key[1..], &key[..40], &format!("{key}A")] {
            // Without a question the answer is there at once.
            let answer = keys.verify(token).now_or_never().unwrap();
            assert_eq!(answer.unwrap_err(), UNKNOWN);
        }
        assert!(keys.verify(key).now_or_never().is_none());
        database.end().await;
    }
}
