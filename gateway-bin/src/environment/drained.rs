//! Instances that nobody new is sent to, at every gateway.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::error::unavailable;
use super::opening::Opening;
use super::{EnvironmentError, Environments};
use crate::store::Note;

/// How often it is heard what another gateway was told.
const HEAR: Duration = Duration::from_secs(1);

impl Environments {
    /// Sends nobody new to an instance, or sends people there again, as an administrative act; `None`: there is no such
    /// instance; `false`, and nothing is noted: it is so already. Whoever has a place there keeps it, unless people are moved
    /// from where they are not wanted (`routing.affinity`).
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
        note: Note,
    ) -> Result<Option<bool>, EnvironmentError> {
        let Some(upstream) = self.upstreams().get(instance) else {
            return Ok(None);
        };
        let store = &self.shared.store;
        let set = store.note_drained(instance, is_drained, note).await;
        let changed = set.map_err(|error| unavailable("store", error))?;
        upstream.set_drained(is_drained);
        Ok(Some(changed))
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

    /// Takes somebody's place on an instance away, as an administrative act, so that they are sent where others are who come
    /// now; `false`, and nothing is noted: they have none there. Their files stay, and their conversations stay on that instance; what is open to it stays open.
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
        note: Note,
    ) -> Result<bool, EnvironmentError> {
        let store = &self.shared.store;
        let deleted = store.delete_assignment(user_id, instance, note).await;
        let deleted = deleted.map_err(|error| unavailable("store", error))?;
        if deleted {
            self.shared.forget(user_id);
            // Whoever opens it meanwhile may have read that they have the place.
            let opening = Opening::new(&self.shared, user_id);
            tokio::spawn(async move {
                let turn = Arc::clone(&opening.gate).lock_owned().await;
                opening.shared.forget(&opening.user_id);
                drop(turn);
            });
        }
        Ok(deleted)
    }
}
