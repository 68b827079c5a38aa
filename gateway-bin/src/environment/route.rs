//! Which instance somebody is sent to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tower_workspace::Workspace;
use tracing::{info, warn};

use super::{EnvironmentError, Shared, unavailable};
use crate::config::Affinity;
use crate::instance::{Upstream, slot_name};
use crate::store::{Assigned, Candidate};

/// How long an instance may take to say which of its slots are in use; one that takes longer gets nobody now.
const CENSUS: Duration = Duration::from_secs(15);

/// Where somebody is sent.
pub(super) struct Routed {
    pub(super) upstream: Arc<Upstream>,
    /// Where they were until now, as the store has it.
    stored: Option<String>,
    /// Whether that is somewhere else, or nowhere.
    pub(super) is_new: bool,
}

impl Shared {
    /// Whether people of that instance are sent to another one.
    pub(super) fn moves_from(&self, upstream: &Upstream) -> bool {
        self.affinity == Affinity::Preferred && !upstream.takes_people()
    }

    /// The instance that somebody has a place on; whoever has none, or is to be moved, is sent to one that takes people.
    pub(super) async fn route(&self, user_id: &Arc<str>) -> Result<Routed, EnvironmentError> {
        let stored = self.store.find_assignment(user_id).await;
        let stored = stored.map_err(|error| unavailable("store", error))?;
        let theirs = stored.as_deref().and_then(|name| self.upstreams.get(name));
        let goes_on = match (&theirs, &stored) {
            (Some(upstream), _) => !self.moves_from(upstream),
            (None, Some(name)) if self.affinity == Affinity::Required => {
                let name: Arc<str> = name.as_str().into();
                warn!(
                    instance = &*name,
                    "somebody has a place on an instance that is not configured"
                );
                return Err(EnvironmentError::Away(name));
            }
            (None, _) => false,
        };
        let upstream = match (theirs, goes_on) {
            (Some(upstream), true) => Some(upstream),
            // Better where they were than nowhere.
            (theirs, _) => self.first_that_takes_people(theirs),
        };
        let upstream = upstream.ok_or_else(|| {
            warn!("no instance takes people");
            EnvironmentError::Full
        })?;
        Ok(Routed {
            is_new: stored.as_deref() != Some(&*upstream.name),
            upstream,
            stored,
        })
    }

    /// One that takes people now; or else where they were; or else one that may take people in a moment.
    fn first_that_takes_people(&self, theirs: Option<Arc<Upstream>>) -> Option<Arc<Upstream>> {
        let upstreams = self.upstreams.all();
        let first = |which: fn(&Upstream) -> bool| {
            let mut upstreams = upstreams.iter();
            upstreams.find(|upstream| which(upstream)).cloned()
        };
        let may = |upstream: &Upstream| !upstream.is_drained() && !upstream.fitness.is_bad();
        first(Upstream::takes_people)
            .or(theirs)
            .or_else(|| first(may))
    }

    /// Finds somebody a slot: on their instance, or on the one of those that take people that is least taken.
    pub(super) async fn assign(
        &self,
        routed: &Routed,
        workspace: &Workspace,
    ) -> Result<(Arc<Upstream>, Arc<str>), EnvironmentError> {
        let upstreams = match routed.is_new {
            true => self.upstreams.all(),
            false => Vec::new(),
        };
        let mut upstreams: Vec<_> = upstreams
            .into_iter()
            .filter(|upstream| upstream.takes_people())
            .collect();
        if upstreams.is_empty() {
            upstreams.push(Arc::clone(&routed.upstream));
        }
        if workspace.has_sandbox() {
            upstreams.retain(|upstream| upstream.fitness.sandbox().is_some());
            if upstreams.is_empty() {
                return Err(EnvironmentError::NoSandbox);
            }
        }
        let user = workspace.name().as_str();
        let candidates = join_all(upstreams.iter().map(|upstream| candidate(upstream, user)));
        let candidates = candidates.await;
        let candidates: Result<Vec<_>, _> = match candidates.iter().any(Result::is_ok) {
            true => Ok(candidates.into_iter().flatten().collect()),
            false => candidates.into_iter().collect(),
        };
        let user_id = workspace.user_id();
        let stored = routed.stored.as_deref();
        let assigned = self.store.assign_slot(user_id, stored, candidates?).await;
        let assigned = assigned.map_err(|error| unavailable("store", error))?;
        match assigned {
            Assigned::Slot { instance, slot } => {
                let mut upstreams = upstreams.into_iter();
                let upstream = upstreams.find(|upstream| *upstream.name == *instance);
                let upstream = upstream.ok_or_else(|| EnvironmentError::Away(instance.into()))?;
                if routed.is_new {
                    info!(instance = &*upstream.name, slot, "somebody has a place");
                }
                Ok((upstream, slot_name(slot).into()))
            }
            // Another gateway was faster; whoever asks again is sent there.
            Assigned::Elsewhere(instance) => Err(EnvironmentError::Away(instance.into())),
            Assigned::Full => {
                warn!("no instance has a place left");
                Err(EnvironmentError::Full)
            }
        }
    }
}

async fn candidate(upstream: &Upstream, user: &str) -> Result<Candidate, EnvironmentError> {
    let in_use = timeout(CENSUS, upstream.agents.slots_in_use(user)).await;
    let in_use = in_use.map_err(|elapsed| unavailable("instance", elapsed))?;
    Ok(Candidate {
        instance: upstream.name.to_string(),
        slots: upstream.slots,
        in_use: in_use.map_err(|error| unavailable("instance", error))?,
    })
}
