//! What one of several gateways does at a time.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError};

/// That nobody else does it: as long as it is held, and for its length after a gateway has died that had it.
pub(crate) struct Lease {
    store: Store,
    name: String,
    holder: String,
    renewing: JoinHandle<()>,
    lost: CancellationToken,
}

const LENGTH: Duration = Duration::from_secs(60);

/// How often somebody who waits asks, for something that takes a moment.
const AGAIN: Duration = Duration::from_millis(200);

// === impl Lease ===

impl Lease {
    /// Waits until nobody else has it.
    pub(crate) async fn take(store: &Store, name: String) -> Result<Self, StoreError> {
        Self::take_for(store, name, LENGTH, AGAIN).await
    }

    /// As [`take`](Self::take), for something that goes on: whoever waits asks every `again`, and takes over at the latest
    /// that and `length` after its holder died.
    pub(crate) async fn take_for(
        store: &Store,
        name: String,
        length: Duration,
        again: Duration,
    ) -> Result<Self, StoreError> {
        let holder = uuid::Uuid::new_v4().to_string();
        while !store.lease(&name, &holder, length).await? {
            sleep(again).await;
        }
        let lost = CancellationToken::new();
        let renewing = {
            let (store, name, holder) = (store.clone(), name.clone(), holder.clone());
            let lost = lost.clone();
            tokio::spawn(async move {
                let mut renewed = Instant::now();
                while renewed.elapsed() < length {
                    sleep(length / 3).await;
                    let asked = Instant::now();
                    match store.lease(&name, &holder, length).await {
                        Ok(true) => renewed = asked,
                        Ok(false) => break,
                        // What does not answer now is asked again in time.
                        Err(_) => {}
                    }
                }
                lost.cancel();
            })
        };
        Ok(Self {
            store: store.clone(),
            name,
            holder,
            renewing,
            lost,
        })
    }

    /// Waits until somebody else may have it.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        let (store, name) = (self.store.clone(), std::mem::take(&mut self.name));
        let holder = std::mem::take(&mut self.holder);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // If that fails it ends by itself.
            runtime.spawn(async move { store.end_lease(&name, &holder).await });
        }
    }
}
