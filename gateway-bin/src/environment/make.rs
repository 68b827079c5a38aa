//! How an environment is made, and put right.

use std::sync::Arc;

use tower_sso::Identity;
use tower_workspace::fs::{Person, ProvisionError};
use tracing::error;

use super::Environment;
use super::agent::spec;
use super::error::{EnvironmentError, unavailable};
use super::opening::Tools;
use super::remedy::remedy;
use super::shared::Shared;
use crate::instance::Upstream;
use crate::lease::Lease;

// === impl Shared ===

impl Shared {
    pub(super) async fn open(
        &self,
        identity: &Arc<Identity>,
        tools: Tools,
    ) -> Result<Environment, EnvironmentError> {
        let user_id = identity.user_id();
        let person = self.person(identity).await?;
        // Of several gateways, too, one makes it.
        let _lease = match self.store.is_shared() {
            true => Some(self.lease(user_id).await?),
            false => None,
        };
        let row = self.store.find_environment(user_id).await;
        let row = row.map_err(|error| unavailable("store", error))?;
        // Once they require it, they do wherever they are sent.
        let has_sandbox =
            tools == Tools::InSandbox || row.as_ref().is_some_and(|row| row.has_sandbox);
        let person = person.with_sandbox(has_sandbox);
        let routed = self.route(user_id).await?;
        let upstream = &routed.upstream;
        let described = self.provisioner_of(upstream).describe(&person)?;
        let prepared = upstream.agents.prepared().await;
        prepared.map_err(|error| unavailable("instance", error))?;
        // Nobody is let in before it is known that nobody can pass for them there.
        if !upstream.fitness.known().await.is_empty() {
            return Err(EnvironmentError::Away(Arc::clone(&upstream.name)));
        }
        // What is changed from here on is looked at when they come again.
        let changes = upstream.admin.changes();
        if !routed.is_new
            && let Some((agent, key_id)) = self.find_in_use(upstream, row, &described).await?
        {
            let person = person.with_key_id(key_id);
            self.provision(upstream, &person).await?;
            let workspace = described.with_instance(Arc::clone(&upstream.name));
            return Ok(self.keep(workspace.with_slot(agent), upstream, changes));
        }
        let (upstream, agent) = self.assign(&routed, &described).await?;
        let changes = upstream.admin.changes();
        let minted = self.keys.mint(user_id);
        let minted = minted.map_err(|error| unavailable("randomness", error))?;
        // It may see the root elsewhere than the one that was thought of.
        let described = self.provisioner_of(&upstream).describe(&person)?;
        // Before anything is made: without a sandbox for who requires one there is nothing to make.
        let spec = spec(&upstream, Arc::clone(&agent), &described)?;
        let person = person.with_key_id(minted.row.key_id.as_str());
        self.provision(&upstream, &person).await?;
        let workspace = described.with_instance(Arc::clone(&upstream.name));
        let workspace = workspace.with_slot(agent);
        self.make_agent(&upstream, &workspace, spec, minted).await?;
        Ok(self.keep(workspace, &upstream, changes))
    }

    pub(super) async fn lease(&self, user_id: &Arc<str>) -> Result<Lease, EnvironmentError> {
        let lease = Lease::take(&self.store, format!("environment {user_id}")).await;
        let lease = lease.map_err(|error| unavailable("store", error))?;
        // Another one may have made it since its keys were last heard of.
        let key = self.store.find_key_of(user_id).await;
        if let Some(key) = key.map_err(|error| unavailable("store", error))? {
            self.keys.admit(&key);
        }
        Ok(lease)
    }

    pub(super) async fn provision(
        &self,
        upstream: &Upstream,
        person: &Person,
    ) -> Result<(), EnvironmentError> {
        match self.provisioner_of(upstream).provision(person).await {
            Ok(_) => Ok(()),
            Err(ProvisionError::Name(error)) => Err(EnvironmentError::InvalidUser(error)),
            Err(error) => {
                error!(
                    error = &error as &dyn std::error::Error,
                    remedy = remedy(&error),
                    "somebody's workspace cannot be made"
                );
                Err(EnvironmentError::Unavailable {
                    what: "workspace",
                    source: Box::new(error),
                })
            }
        }
    }
}
