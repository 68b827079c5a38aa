//! Which instance somebody is sent to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tower_workspace::Workspace;
use tracing::{info, warn};

use super::EnvironmentError;
use super::error::unavailable;
use super::shared::Shared;
use crate::cells::is_spawned;
use crate::config::Affinity;
use crate::instance::{CELL_AGENT, Upstream, slot_name};
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

    /// Whether somebody who comes now goes on where they were.
    pub(super) fn goes_on(&self, user_id: &str, upstream: &Arc<Upstream>) -> bool {
        match self.cell_for(user_id) {
            Some(cell) => Arc::ptr_eq(&cell, upstream),
            None => !self.moves_from(upstream),
        }
    }

    /// The cell that somebody is sent to: their own, unless they are better off in a pool for as long as it is away.
    fn cell_for(&self, user_id: &str) -> Option<Arc<Upstream>> {
        let cell = self.upstreams.cell_of(user_id);
        // One that has just been started does not take people yet, and will in a moment.
        cell.filter(|cell| is_spawned(&cell.name) || !self.moves_from(cell))
    }

    /// The instance that somebody is sent to: their cell, or else the one that they have a place on; whoever has none, or is
    /// to be moved, is sent to one that takes people. A place in a pool is kept while they are in their cell.
    pub(super) async fn route(&self, user_id: &Arc<str>) -> Result<Routed, EnvironmentError> {
        let stored = self.store.find_assignment(user_id).await;
        let stored = stored.map_err(|error| unavailable("store", error))?;
        if let Some(upstream) = self.cell_for(user_id) {
            return Ok(Routed {
                upstream,
                stored,
                is_new: false,
            });
        }
        if self.spawned(user_id).is_some() {
            // It has ended while they came.
            return Err(EnvironmentError::Away("cell".into()));
        }
        let theirs = stored.as_deref().and_then(|name| self.upstreams.get(name));
        let theirs = theirs.filter(|upstream| !upstream.is_cell());
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
        let upstream = upstream.or_else(|| self.upstreams.cell_of(user_id));
        let upstream = upstream.ok_or_else(|| {
            warn!("no instance takes people");
            EnvironmentError::Full
        })?;
        Ok(Routed {
            is_new: !upstream.is_cell() && stored.as_deref() != Some(&*upstream.name),
            upstream,
            stored,
        })
    }

    /// One that takes people now; or else where they were; or else one that may take people in a moment.
    fn first_that_takes_people(&self, theirs: Option<Arc<Upstream>>) -> Option<Arc<Upstream>> {
        let upstreams = self.upstreams.pools();
        let first = |which: fn(&Upstream) -> bool| {
            let mut upstreams = upstreams.iter();
            upstreams.find(|upstream| which(upstream)).cloned()
        };
        let may = |upstream: &Upstream| !upstream.is_drained() && !upstream.fitness.is_bad();
        first(Upstream::takes_people)
            .or(theirs)
            .or_else(|| first(may))
    }

    /// Finds somebody an agent: that of their cell, or else a slot, on their instance or on the one of those that take people
    /// that is least taken.
    pub(super) async fn assign(
        &self,
        routed: &Routed,
        workspace: &Workspace,
    ) -> Result<(Arc<Upstream>, Arc<str>), EnvironmentError> {
        if routed.upstream.is_cell() {
            return Ok((Arc::clone(&routed.upstream), CELL_AGENT.into()));
        }
        let upstreams = match routed.is_new {
            true => self.upstreams.pools(),
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

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;
    use tower_workspace::fs::Provisioner;

    use super::super::Environments;
    use super::*;
    use crate::config::Instance;
    use crate::egress::VirtualKeys;
    use crate::instance::{Device, Offer, Tolerance, Upstreams};
    use crate::store::Store;
    use crate::store::testing::person;

    /// Instances that are not there, as far as is known: whether one takes people decides nothing but where it is preferred.
    fn instances(names: &[&str]) -> Vec<Instance> {
        let written = names.iter().enumerate().map(|(n, name)| {
            let more = match name.strip_suffix("s-cell") {
                Some(user) => format!("mode = \"cell\"\nuser = \"{user}\"\nauth = {{ kind = \"password\", password = \"p\" }}"),
                None => "auth = { kind = \"trusted-proxy\", password = \"p\" }".to_owned(),
            };
            let text = format!("name = \"{name}\"\nurl = \"http://127.0.0.1:{}\"\n{more}", n + 1);
            toml::from_str(&text).unwrap()
        });
        written.collect()
    }

    async fn environments(affinity: Affinity, names: &[&str]) -> (Environments, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        for user in ["alice", "bob"] {
            store.put_user(&person(user)).await.unwrap();
        }
        let upstreams = Upstreams::new(|instance| {
            let (device, _) = Device::generate().unwrap();
            let (tolerance, stop) = (Tolerance::new(3, CENSUS), CancellationToken::new());
            Upstream::start(
                instance,
                device.into(),
                Offer::of_the_instance(),
                tolerance,
                |_, _| {},
                stop,
            )
        });
        upstreams.set(&instances(names)).unwrap();
        let provisioner = Provisioner::new(dir.path());
        let keys = VirtualKeys::default();
        (
            Environments::new(store, provisioner, keys, upstreams, affinity),
            dir,
        )
    }

    async fn routed(environments: &Environments, user: &str) -> Option<String> {
        let routed = environments.shared.route(&user.into()).await;
        routed.ok().map(|routed| routed.upstream.name.to_string())
    }

    #[tokio::test]
    async fn a_cell_is_its_owners_and_their_place_in_a_pool_waits_for_them() {
        let (environments, _dir) = environments(Affinity::Required, &["pool", "alices-cell"]).await;
        let shared = &environments.shared;
        let candidates = vec![Candidate {
            instance: "pool".to_owned(),
            slots: 3,
            in_use: crate::instance::SlotsInUse::default(),
        }];
        let alice = "alice".into();
        let assigned = shared.store.assign_slot(&alice, None, candidates);
        assigned.await.unwrap();

        assert_eq!(
            routed(&environments, "alice").await.as_deref(),
            Some("alices-cell")
        );
        assert_eq!(routed(&environments, "bob").await.as_deref(), Some("pool"));
        let person = Provisioner::new("/srv").describe(&tower_workspace::fs::Person::new("alice"));
        let theirs = shared.route(&"alice".into()).await.unwrap();
        let (upstream, agent) = shared.assign(&theirs, &person.unwrap()).await.unwrap();
        assert_eq!((&*upstream.name, &*agent), ("alices-cell", "main"));
        assert!(shared.goes_on("alice", &upstream));
        let pool = environments.upstreams().get("pool").unwrap();
        assert!(
            !shared.goes_on("alice", &pool),
            "whoever has a cell goes there"
        );
        assert!(shared.goes_on("bob", &pool));

        environments.upstreams().set(&instances(&["pool"])).unwrap();
        assert_eq!(
            routed(&environments, "alice").await.as_deref(),
            Some("pool")
        );
        let stored = shared.store.find_assignment(&"alice".into()).await.unwrap();
        assert_eq!(stored.as_deref(), Some("pool"));
        environments
            .upstreams()
            .set(&instances(&["pool", "bobs-cell"]))
            .unwrap();
        assert_eq!(
            routed(&environments, "bob").await.as_deref(),
            Some("bobs-cell")
        );
        assert_eq!(
            routed(&environments, "alice").await.as_deref(),
            Some("pool")
        );
    }

    #[tokio::test]
    async fn nobody_is_sent_to_somebody_elses_cell_even_where_there_is_nothing_else() {
        for affinity in [Affinity::Required, Affinity::Preferred] {
            let (environments, _dir) = environments(affinity, &["alices-cell"]).await;
            assert_eq!(routed(&environments, "bob").await, None);
            let hers = routed(&environments, "alice").await;
            assert_eq!(
                hers.as_deref(),
                Some("alices-cell"),
                "better there than nowhere"
            );
        }
    }

    #[tokio::test]
    async fn where_it_is_preferred_who_waits_for_a_cell_is_in_a_pool() {
        let (environments, _dir) =
            environments(Affinity::Preferred, &["pool", "alices-cell"]).await;
        let cell = environments.upstreams().get("alices-cell").unwrap();
        assert!(!cell.takes_people(), "it is not there");
        assert_eq!(
            routed(&environments, "alice").await.as_deref(),
            Some("pool")
        );
        assert!(!environments.shared.goes_on("alice", &cell));
    }

    #[tokio::test]
    async fn a_place_on_what_is_somebodys_cell_now_is_no_place() {
        let (environments, _dir) = environments(Affinity::Required, &["pool"]).await;
        let candidates = vec![Candidate {
            instance: "bobs-cell".to_owned(),
            slots: 3,
            in_use: crate::instance::SlotsInUse::default(),
        }];
        let store = &environments.shared.store;
        store
            .assign_slot(&"alice".into(), None, candidates)
            .await
            .unwrap();
        environments
            .upstreams()
            .set(&instances(&["pool", "bobs-cell"]))
            .unwrap();
        assert_eq!(
            routed(&environments, "alice").await,
            None,
            "it waits for what it was"
        );
    }
}
