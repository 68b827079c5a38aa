//! How an environment is opened.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tower_sso::Identity;

use super::error::{EnvironmentError, unavailable};
use super::shared::Shared;
use super::{Environment, Environments};

/// Longest wait for an environment; an instance under load takes some seconds for an agent.
const OPEN_TIMEOUT: Duration = Duration::from_secs(45);

/// How somebody's tools are to run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tools {
    AsTheyWere,
    InSandbox,
}

/// Somebody's turn to open an environment: one at a time for each user.
pub(super) struct Opening {
    pub(super) shared: Arc<Shared>,
    pub(super) user_id: Arc<str>,
    pub(super) gate: Arc<Mutex<()>>,
}

// === impl Environments ===

impl Environments {
    /// Opens somebody's environment: makes what is missing, repairs what is half made, and returns when the agent can
    /// be used.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`]; at the latest after 45 seconds. What was begun goes on and is taken up by the next call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop what was begun.
    pub async fn open(&self, identity: &Arc<Identity>) -> Result<Environment, EnvironmentError> {
        self.open_as(identity, self.tools).await
    }

    /// Opens somebody's environment, whose tools run in a sandbox from now on, or not at all.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`EnvironmentError::NoSandbox`] where there is none, and then nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// As [`open`](Self::open).
    pub async fn open_with_sandbox(
        &self,
        identity: &Arc<Identity>,
    ) -> Result<Environment, EnvironmentError> {
        self.open_as(identity, Tools::InSandbox).await
    }

    async fn open_as(
        &self,
        identity: &Arc<Identity>,
        tools: Tools,
    ) -> Result<Environment, EnvironmentError> {
        let shared = &self.shared;
        shared.wake(identity.user_id())?;
        let in_use = shared.in_use(identity.user_id());
        shared.reached(identity.user_id()).await;
        let mut environment = self.open_awake(identity, tools).await?;
        environment.in_use = in_use;
        Ok(environment)
    }

    async fn open_awake(
        &self,
        identity: &Arc<Identity>,
        tools: Tools,
    ) -> Result<Environment, EnvironmentError> {
        if let Some(environment) = self.shared.find_usable(identity.user_id(), tools).await? {
            return Ok(environment);
        }
        let waited = timeout(OPEN_TIMEOUT, self.open_alone(Arc::clone(identity), tools)).await;
        waited.unwrap_or_else(|elapsed| Err(unavailable("instance", elapsed)))
    }

    /// Opens an environment as the only one for its user.
    async fn open_alone(
        &self,
        identity: Arc<Identity>,
        tools: Tools,
    ) -> Result<Environment, EnvironmentError> {
        let opening = Opening::new(&self.shared, identity.user_id());
        let turn = Arc::clone(&opening.gate).lock_owned().await;
        if let Some(environment) = self.shared.find_usable(identity.user_id(), tools).await? {
            return Ok(environment);
        }
        // In a task of its own: who does not wait any longer finds it done when they come again.
        let opened = tokio::spawn(async move {
            let opened = opening.shared.open(&identity, tools).await;
            drop(turn);
            drop(opening);
            opened
        });
        let opened = opened.await;
        opened.unwrap_or_else(|stopped| Err(unavailable("gateway", stopped)))
    }
}

// === impl Opening ===

impl Opening {
    pub(super) fn new(shared: &Arc<Shared>, user_id: &Arc<str>) -> Self {
        let mut opening = shared
            .opening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let gate = Arc::clone(opening.entry(Arc::clone(user_id)).or_default());
        Self {
            shared: Arc::clone(shared),
            user_id: Arc::clone(user_id),
            gate,
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = self
            .shared
            .opening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Ours and the map's: nobody else waits at this gate, and under the lock nobody can come.
        if Arc::strong_count(&self.gate) == 2 {
            opening.remove(&self.user_id);
        }
    }
}
