use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use tracing::info;

use super::upstream::Upstream;
use crate::cells::Roster;
use crate::config::Instance;

/// Every instance there is; clones share them.
#[derive(Clone)]
pub struct Upstreams {
    shared: Arc<Shared>,
}

/// Starts to work with an instance, or says what of its configuration cannot be used.
type Start = dyn Fn(&Instance) -> Result<Upstream, String> + Send + Sync;

struct Shared {
    start: Box<Start>,
    members: RwLock<BTreeMap<Arc<str>, Member>>,
}

struct Member {
    /// Whether it comes and goes by itself, whatever is configured.
    is_spawned: bool,
    configured: Instance,
    upstream: Arc<Upstream>,
}

// === impl Upstreams ===

impl Upstreams {
    /// None yet; `start` is called with each that comes.
    #[must_use]
    pub fn new(
        start: impl Fn(&Instance) -> Result<Upstream, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                start: Box::new(start),
                members: RwLock::default(),
            }),
        }
    }

    /// Makes these the instances that there are. One that is as it was goes on undisturbed; what is open to one that is
    /// gone, or is another now, is closed.
    ///
    /// # Errors
    ///
    /// The instance that cannot be used, and why; nothing has changed then.
    pub fn set(&self, instances: &[Instance]) -> Result<(), String> {
        let mut members = self.shared.members.write();
        let members = members
            .as_deref_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut());
        let is_as_it_was = |instance: &Instance| {
            let member = members.get(&*instance.name);
            member.is_some_and(|member| member.configured == *instance)
        };
        let mut started = Vec::new();
        for instance in instances.iter().filter(|instance| !is_as_it_was(instance)) {
            match (self.shared.start)(instance) {
                Ok(upstream) => started.push((instance, Arc::new(upstream))),
                Err(problem) => {
                    for (_, upstream) in started {
                        upstream.removed.cancel();
                    }
                    return Err(format!("instance.{}: {problem}", instance.name));
                }
            }
        }
        let stays = |name: &str| {
            let mut instances = instances.iter();
            instances.any(|instance| instance.name == name && is_as_it_was(instance))
        };
        let gone: Vec<Arc<str>> = members
            .iter()
            .filter(|(name, member)| !member.is_spawned && !stays(name))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in gone {
            if let Some(member) = members.remove(&name) {
                member.upstream.removed.cancel();
                info!(instance = &*name, "instance is not used any more");
            }
        }
        for (instance, upstream) in started {
            let configured = instance.clone();
            let member = Member {
                is_spawned: false,
                configured,
                upstream,
            };
            members.insert(Arc::clone(&member.upstream.name), member);
        }
        Ok(())
    }

    /// There is one more instance, which is not configured and stays until it is [removed](Self::remove).
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub fn add(&self, instance: &Instance) -> Result<(), String> {
        let upstream = Arc::new((self.shared.start)(instance)?);
        let mut members = self.shared.members.write();
        let members = members
            .as_deref_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut());
        let member = Member {
            is_spawned: true,
            configured: instance.clone(),
            upstream,
        };
        if let Some(earlier) = members.insert(instance.name.as_str().into(), member) {
            earlier.upstream.removed.cancel();
        }
        Ok(())
    }

    /// There is no such instance any more, if there was one that was [added](Self::add).
    pub fn remove(&self, name: &str) {
        let mut members = self.shared.members.write();
        let members = members
            .as_deref_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut());
        if members.get(name).is_some_and(|member| member.is_spawned)
            && let Some(member) = members.remove(name)
        {
            member.upstream.removed.cancel();
        }
    }

    /// The instance of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Upstream>> {
        let members = self.shared.members.read();
        let members = members.unwrap_or_else(PoisonError::into_inner);
        let member = members.get(name)?;
        Some(Arc::clone(&member.upstream))
    }

    /// The cell of that user.
    #[must_use]
    pub fn cell_of(&self, user_id: &str) -> Option<Arc<Upstream>> {
        let members = self.shared.members.read();
        let members = members.unwrap_or_else(PoisonError::into_inner);
        let theirs = members
            .values()
            .filter(|member| member.upstream.owner.as_deref() == Some(user_id));
        // Whoever has one that is configured has no other.
        let theirs = theirs.min_by_key(|member| member.is_spawned)?;
        Some(Arc::clone(&theirs.upstream))
    }

    /// Those that are nobody's own, by name.
    #[must_use]
    pub fn pools(&self) -> Vec<Arc<Upstream>> {
        let mut all = self.all();
        all.retain(|upstream| !upstream.is_cell());
        all
    }

    /// Those that do not come and go by themselves, by name.
    #[must_use]
    pub fn configured(&self) -> Vec<Arc<Upstream>> {
        let members = self.shared.members.read();
        let members = members.unwrap_or_else(PoisonError::into_inner);
        let configured = members.values().filter(|member| !member.is_spawned);
        configured
            .map(|member| Arc::clone(&member.upstream))
            .collect()
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Upstream>> {
        let members = self.shared.members.read();
        let members = members.unwrap_or_else(PoisonError::into_inner);
        let upstreams = members.values().map(|member| &member.upstream);
        upstreams.cloned().collect()
    }
}

impl Roster for Upstreams {
    fn join(&self, cell: &Instance) -> Result<(), String> {
        self.add(cell)
    }

    fn leave(&self, name: &str) {
        self.remove(name);
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .all()
            .into_iter()
            .map(|upstream| Arc::clone(&upstream.name));
        f.debug_set().entries(names).finish()
    }
}
