//! The environment of one person.

use std::sync::Arc;

use tower_workspace::Workspace;

use super::error::{EnvironmentError, unavailable};
use crate::cells::InUse;
use crate::instance::Upstream;
use crate::protocol::ExtendedChat;

/// Where somebody works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Environment {
    /// Their workspace.
    pub workspace: Arc<Workspace>,
    /// The instance that their agent is on.
    pub upstream: Arc<Upstream>,
    /// That it is used, where it is a cell that would be stopped else.
    pub(super) in_use: Option<Arc<InUse>>,
}

// === impl Environment ===

impl Environment {
    /// The id of the auth profile in the workspace.
    #[must_use]
    pub fn auth_profile_id(&self) -> String {
        let provider = self.upstream.offer.first_provider();
        self.workspace.auth_profile_id(provider)
    }

    /// What the instance is told beside messages, if it is one that wants it.
    #[must_use]
    pub fn extended_chat(&self) -> Option<ExtendedChat> {
        let workspace = &self.workspace;
        self.upstream.extended_chat_params.then(|| {
            ExtendedChat::new(
                workspace.name().as_str(),
                workspace.slot().unwrap_or_default(),
                &workspace.instance_workspace_dir().display().to_string(),
                &self.auth_profile_id(),
            )
        })
    }

    /// Whether its model calls go through egress, which refuses those for which nothing is left.
    #[must_use]
    pub fn uses_egress(&self) -> bool {
        !self.upstream.offer.is_of_the_instance()
    }

    /// Gives whose it is their role on the instance again.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave them without the role.
    pub async fn bind(&self) -> Result<(), EnvironmentError> {
        let slot = self.workspace.slot().unwrap_or_default();
        let bound = self.upstream.bind(self.workspace.name().as_str(), slot);
        bound.await.map_err(|error| unavailable("instance", error))
    }
}
