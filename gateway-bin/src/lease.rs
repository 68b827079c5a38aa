//! What one of several gateways does at a time.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::store::{Store, StoreError};

/// That nobody else does it: as long as it is held, and a minute after a gateway has died that had it.
pub(crate) struct Lease {
    store: Store,
    name: String,
    holder: String,
    renewing: JoinHandle<()>,
}

const LENGTH: Duration = Duration::from_secs(60);

/// How often somebody who waits asks.
const AGAIN: Duration = Duration::from_millis(200);

// === impl Lease ===

impl Lease {
    /// Waits until nobody else has it.
    pub(crate) async fn take(store: &Store, name: String) -> Result<Self, StoreError> {
        let holder = uuid::Uuid::new_v4().to_string();
        while !store.lease(&name, &holder, LENGTH).await? {
            sleep(AGAIN).await;
        }
        let renewing = {
            let (store, name, holder) = (store.clone(), name.clone(), holder.clone());
            tokio::spawn(async move {
                loop {
                    sleep(LENGTH / 3).await;
                    // What does not answer now is asked again in time.
                    let _ = store.lease(&name, &holder, LENGTH).await;
                }
            })
        };
        Ok(Self {
            store: store.clone(),
            name,
            holder,
            renewing,
        })
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
