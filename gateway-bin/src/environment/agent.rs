//! Somebody's agent on an instance, with the key that it calls models by.

use std::sync::Arc;

use tower_workspace::Workspace;
use tracing::{info, warn};

use super::error::{EnvironmentError, unavailable};
use super::shared::Shared;
use crate::egress::MintedKey;
use crate::instance::{AgentSpec, Standing, Upstream};
use crate::store::{EnvironmentRow, KeyAgent};

// === impl Shared ===

impl Shared {
    /// Somebody's agent on the instance and the key that it uses, if it is there. It is put right where somebody has changed
    /// it.
    pub(super) async fn find_in_use(
        &self,
        upstream: &Upstream,
        row: Option<EnvironmentRow>,
        workspace: &Workspace,
    ) -> Result<Option<(Arc<str>, String)>, EnvironmentError> {
        let Some(row) = row.filter(|row| row.agent_ready && row.instance == *upstream.name) else {
            return Ok(None);
        };
        let spec = spec(upstream, row.agent_id.into(), workspace)?;
        let as_it_must_be = row.agent_spec == spec.fingerprint();
        let Some(key_id) = self
            .keys
            .find_key_id(workspace.user_id())
            .filter(|_| as_it_must_be)
        else {
            return Ok(None);
        };
        let standing = upstream.agents.standing(&spec).await;
        let agent = Arc::clone(&spec.agent);
        match standing.map_err(|error| unavailable("instance", error))? {
            Standing::Whole => {}
            Standing::Changed => {
                let repaired = upstream.agents.repair(spec).await;
                repaired.map_err(|error| unavailable("instance", error))?;
                metrics::counter!("gateway_agent_repairs_total").increment(1);
                warn!(
                    agent = &*agent,
                    instance = &*upstream.name,
                    "somebody had changed an agent, or a role; it is as it must be again"
                );
            }
            Standing::Gone => return Ok(None),
        }
        Ok(Some((agent, key_id)))
    }

    /// Makes the agent with a new key. The store has the key before the instance does: whatever happens in between, no
    /// agent has a key that is not known here, and the next call makes agent and key anew.
    pub(super) async fn make_agent(
        &self,
        upstream: &Upstream,
        workspace: &Workspace,
        spec: AgentSpec,
        minted: MintedKey,
    ) -> Result<(), EnvironmentError> {
        let MintedKey {
            row: mut key,
            key: virtual_key,
        } = minted;
        let agent = Arc::clone(&spec.agent);
        key.agent = Some(KeyAgent {
            instance: Arc::clone(&upstream.name),
            agent: Arc::clone(&agent),
        });
        let row = EnvironmentRow {
            user_id: Arc::clone(workspace.user_id()),
            instance: upstream.name.to_string(),
            agent_id: agent.to_string(),
            agent_spec: spec.fingerprint(),
            workspace_dir: workspace.workspace_dir().display().to_string(),
            profile_name: workspace.profile_name().to_owned(),
            auth_profile_id: workspace.auth_profile_id(upstream.offer.first_provider()),
            has_sandbox: workspace.has_sandbox(),
            agent_ready: false,
        };
        let put = self.store.put_environment(row, key.clone()).await;
        put.map_err(|error| unavailable("store", error))?;
        self.keys.admit(&key);
        let made = upstream.agents.make(spec, virtual_key).await;
        made.map_err(|error| unavailable("instance", error))?;
        let ready = self
            .store
            .agent_ready(workspace.user_id(), key.key_id.clone())
            .await;
        ready.map_err(|error| unavailable("store", error))?;
        self.keys.keep_only(&key);
        info!(
            agent = &*agent,
            instance = &*upstream.name,
            "environment made"
        );
        Ok(())
    }
}

/// The agent of whose workspace it is, as it must be on that instance.
///
/// # Errors
///
/// [`EnvironmentError::NoSandbox`]: without the one that its owner requires there is no agent.
pub(super) fn spec(
    upstream: &Upstream,
    agent: Arc<str>,
    workspace: &Workspace,
) -> Result<AgentSpec, EnvironmentError> {
    let sandbox = match workspace.has_sandbox() {
        true => Some(
            upstream
                .fitness
                .sandbox()
                .ok_or(EnvironmentError::NoSandbox)?,
        ),
        false => None,
    };
    let directory = workspace.instance_workspace_dir().display().to_string();
    let user = workspace.name().as_str().into();
    let spec = AgentSpec::new(agent, user, directory, &upstream.offer);
    let spec = spec.with_sandbox(sandbox);
    Ok(match upstream.is_cell() {
        true => spec.in_cell(),
        false => spec,
    })
}
