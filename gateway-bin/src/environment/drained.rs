//! Instances that nobody new is sent to, at every gateway.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::error::unavailable;
use super::{EnvironmentError, Environments};

/// How often it is heard what another gateway was told.
const HEAR: Duration = Duration::from_secs(1);

impl Environments {
    /// Sends nobody new to an instance, or sends people there again; `false`: there is no such instance. Whoever has a
    /// place there keeps it, unless people are moved from where they are not wanted (`routing.affinity`).
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave it done or not.
    pub async fn set_drained(
        &self,
        instance: &str,
        is_drained: bool,
    ) -> Result<bool, EnvironmentError> {
        let Some(upstream) = self.upstreams().get(instance) else {
            return Ok(false);
        };
        let set = self.shared.store.set_drained(instance, is_drained).await;
        set.map_err(|error| unavailable("store", error))?;
        upstream.set_drained(is_drained);
        Ok(true)
    }

    /// Takes over, for as long as it runs, which instances are drained.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends it.
    pub async fn follow_drained(self) {
        let mut ticks = interval(HEAR);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_deaf = false;
        loop {
            ticks.tick().await;
            match self.shared.store.drained().await {
                Ok(drained) => {
                    for upstream in self.upstreams().all() {
                        let is_drained = drained.iter().any(|name| **name == *upstream.name);
                        upstream.set_drained(is_drained);
                    }
                    is_deaf = false;
                }
                // What is known stays known.
                Err(error) if !is_deaf => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    warn!(error, "the store does not say which instances are drained");
                    is_deaf = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Takes somebody's place on an instance away, so that they are sent where others are who come now; `false`: they have
    /// none there. Their files stay, and their conversations stay on that instance; what is open to it stays open.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave it done or not.
    pub async fn unassign(
        &self,
        user_id: &Arc<str>,
        instance: &str,
    ) -> Result<bool, EnvironmentError> {
        let deleted = self.shared.store.delete_assignment(user_id, instance).await;
        let deleted = deleted.map_err(|error| unavailable("store", error))?;
        if deleted {
            self.shared.forget(user_id);
        }
        Ok(deleted)
    }
}
