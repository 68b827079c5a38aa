//! The environments that this gateway knows.

use std::sync::{Arc, PoisonError};

use tower_workspace::fs::Person;
use tower_workspace::{ResolveError, Workspace};

use super::Environment;
use super::error::{EnvironmentError, unavailable};
use super::opening::Tools;
use super::shared::Shared;
use crate::instance::Upstream;

/// An environment, as it was when it was opened.
pub(super) struct Open {
    environment: Environment,
    /// How many changes the instance had announced then; `None`: it was not opened, and is only known.
    changes: Option<u64>,
}

// === impl Shared ===

impl Shared {
    /// An environment that is as it was opened, wherever people are sent now.
    pub(super) fn find_whole(&self, user_id: &Arc<str>) -> Option<Environment> {
        self.find(user_id).map(|(environment, _)| environment)
    }

    /// The same, and after how many changes of the instance it was opened.
    fn find(&self, user_id: &Arc<str>) -> Option<(Environment, Option<u64>)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let found = open.get(user_id)?;
        // One whose keys were revoked is opened anew, with another.
        let is_whole = self.keys.has_key(user_id);
        is_whole.then(|| (found.environment.clone(), found.changes))
    }

    /// An environment that somebody who comes now goes on in.
    pub(super) fn find_open(&self, user_id: &Arc<str>) -> Option<Environment> {
        let (environment, changes) = self.find(user_id)?;
        let upstream = &environment.upstream;
        // Whenever the instance was away it is looked at again: it may have been restored from a backup; and whenever
        // somebody has changed its configuration or a role.
        let is_as_it_was = changes.is_some_and(|then| then >= upstream.admin.changes());
        let goes_on =
            is_as_it_was && !upstream.removed.is_cancelled() && self.goes_on(user_id, upstream);
        goes_on.then_some(environment)
    }

    /// The same, unless another gateway has sent them somewhere else, or their tools are to run otherwise.
    pub(super) async fn find_usable(
        &self,
        user_id: &Arc<str>,
        tools: Tools,
    ) -> Result<Option<Environment>, EnvironmentError> {
        let fits = |environment: &Environment| {
            tools == Tools::AsTheyWere || environment.workspace.has_sandbox()
        };
        let Some(environment) = self.find_open(user_id).filter(fits) else {
            return Ok(None);
        };
        if !self.store.is_shared() {
            return Ok(Some(environment));
        }
        let Environment {
            workspace,
            upstream,
            ..
        } = &environment;
        let agent = workspace.slot().unwrap_or_default();
        let is_there = self
            .store
            .is_at(user_id, &upstream.name, agent, upstream.is_cell());
        let is_there = is_there
            .await
            .map_err(|error| unavailable("store", error))?;
        Ok(is_there.then_some(environment))
    }

    pub(super) fn forget(&self, user_id: &Arc<str>) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(user_id);
    }

    /// The workspace of somebody whose environment was opened before this gateway started.
    pub(super) async fn resolve_stored(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Arc<Workspace>, ResolveError> {
        let row = self
            .store
            .find_environment(user_id)
            .await
            .map_err(ResolveError::unavailable)?;
        // Also one whose agent is being made anew: it may be at work meanwhile.
        let row = row.ok_or(ResolveError::NotProvisioned)?;
        let Some(upstream) = self.upstreams.get(&row.instance) else {
            let away = EnvironmentError::Away(row.instance.into());
            return Err(ResolveError::unavailable(away));
        };
        // Not before the instance has been told of it.
        let has_sandbox = row.has_sandbox && row.agent_ready;
        let person = Person::new(Arc::clone(user_id)).with_sandbox(has_sandbox);
        let described = self.provisioner_of(&upstream).describe(&person)?;
        let workspace = described.with_instance(row.instance);
        let workspace = Arc::new(workspace.with_slot(row.agent_id));
        // Known, and opened when they come: until then their agent may call models on its own.
        let environment = Environment {
            workspace: Arc::clone(&workspace),
            upstream,
            in_use: None,
        };
        let known = Open {
            environment,
            changes: None,
        };
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.entry(Arc::clone(user_id)).or_insert(known);
        Ok(workspace)
    }

    /// Keeps an environment that was opened after so many changes of its instance.
    pub(super) fn keep(
        &self,
        workspace: Workspace,
        upstream: &Arc<Upstream>,
        changes: u64,
    ) -> Environment {
        let environment = Environment {
            workspace: Arc::new(workspace),
            upstream: Arc::clone(upstream),
            in_use: None,
        };
        let opened = Open {
            environment: environment.clone(),
            changes: Some(changes),
        };
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(Arc::clone(environment.workspace.user_id()), opened);
        environment
    }
}
