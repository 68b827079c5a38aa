//! What other gateways change in a store that they share with this one is heard here a few seconds later.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tokio::time::interval;
use tracing::{info, warn};

use crate::store::{Store, StoreError};

/// Whether it was heard what has changed.
pub(crate) type Hearing = BoxFuture<'static, Result<(), StoreError>>;

/// How often the store is asked.
const ASK: Duration = Duration::from_secs(3);

/// How far back it is asked, besides the time since the last answer: what is written shows itself when its transaction
/// ends, a few seconds after the time that it bears.
const OVERLAP: Duration = Duration::from_secs(60);

/// Has `who` hear what has changed since a time of the store, again and again as long as there is somebody. While the
/// store does not answer, what is known stays known.
pub(crate) async fn follow<T>(
    store: Store,
    mut since: SystemTime,
    who: Weak<T>,
    hear: fn(Store, SystemTime, Arc<T>) -> Hearing,
) {
    let mut ticks = interval(ASK);
    let mut is_deaf = false;
    loop {
        ticks.tick().await;
        let Some(who) = who.upgrade() else {
            return;
        };
        let heard = async {
            let now = store.time().await?;
            let from = since.checked_sub(OVERLAP).unwrap_or(UNIX_EPOCH);
            hear(store.clone(), from, who).await?;
            Ok::<_, StoreError>(now)
        };
        match heard.await {
            Ok(now) => {
                if is_deaf {
                    info!("the store says again what other gateways change");
                }
                (since, is_deaf) = (now, false);
            }
            Err(error) => {
                if !is_deaf {
                    let error = &error as &(dyn std::error::Error + 'static);
                    warn!(
                        error,
                        "the store does not say what other gateways change; it is asked again"
                    );
                }
                is_deaf = true;
            }
        }
    }
}
