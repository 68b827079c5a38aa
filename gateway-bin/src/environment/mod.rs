//! Where people work: a directory here, an agent on the instance, and a virtual key that joins its model calls to its
//! owner.

mod virtual_key;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tower_sso::Identity;
use tower_workspace::fs::{Person, Provisioner};
use tower_workspace::{NameError, ResolveError, ResolveFuture, Workspace, WorkspaceResolver};
use tracing::{info, warn};

use crate::egress::{MintedKey, VirtualKeys};
use crate::instance::{Admin, AgentSpec, Dialer, Gate, Offer, Upstream, slot_name};
use crate::lease::Lease;
use crate::password;
use crate::people::describes_user;
use crate::store::{EnvironmentRow, Store};

/// Longest wait for an environment; an instance under load takes some seconds for an agent.
const OPEN_TIMEOUT: Duration = Duration::from_secs(45);

/// Everybody's environments; clones share them.
#[derive(Clone)]
pub struct Environments {
    shared: Arc<Shared>,
}

/// Why somebody has no environment right now.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// The user id cannot name a directory.
    #[error("user id can have no workspace")]
    InvalidUser(#[from] NameError),
    /// All places of the instance are taken.
    #[error("instance has no place left")]
    Full,
    /// Something that it needs does not answer.
    #[error("{what} failed")]
    Unavailable {
        /// What failed.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

struct Shared {
    store: Store,
    provisioner: Provisioner,
    keys: VirtualKeys,
    upstream: Upstream,
    offer: Offer,
    /// Environments that were opened since the start.
    open: RwLock<HashMap<Arc<str>, Arc<Workspace>>>,
    /// Environments that are being opened: one at a time for each user.
    opening: std::sync::Mutex<HashMap<Arc<str>, Arc<Mutex<()>>>>,
}

// === impl Environments ===

impl Environments {
    /// The environments on one instance, whose agents may use what `offer` names. Runs as long as it is used in a task of
    /// the current runtime, in which it notices that the instance is not what it was.
    #[must_use]
    pub fn new(
        store: Store,
        provisioner: Provisioner,
        keys: VirtualKeys,
        upstream: Upstream,
        offer: Offer,
    ) -> Self {
        let admin = upstream.admin.clone();
        let shared = Arc::new(Shared {
            store,
            provisioner,
            keys,
            upstream,
            offer,
            open: RwLock::default(),
            opening: std::sync::Mutex::default(),
        });
        tokio::spawn(look_again(admin, Arc::downgrade(&shared)));
        Self { shared }
    }

    /// How the instance is reached.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.shared.upstream.dialer
    }

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
    pub async fn open(&self, identity: &Arc<Identity>) -> Result<Arc<Workspace>, EnvironmentError> {
        if let Some(workspace) = self.shared.find_open(identity.user_id()) {
            return Ok(workspace);
        }
        let waited = timeout(OPEN_TIMEOUT, self.open_alone(Arc::clone(identity))).await;
        waited.unwrap_or_else(|elapsed| Err(unavailable("instance", elapsed)))
    }

    /// Opens an environment as the only one for its user.
    async fn open_alone(
        &self,
        identity: Arc<Identity>,
    ) -> Result<Arc<Workspace>, EnvironmentError> {
        let opening = Opening::new(&self.shared, identity.user_id());
        let turn = Arc::clone(&opening.gate).lock_owned().await;
        if let Some(workspace) = self.shared.find_open(identity.user_id()) {
            return Ok(workspace);
        }
        // In a task of its own: who does not wait any longer finds it done when they come again.
        let opened = tokio::spawn(async move {
            let opened = opening.shared.open(&identity).await;
            drop(turn);
            drop(opening);
            opened
        });
        let opened = opened.await;
        opened.unwrap_or_else(|stopped| Err(unavailable("gateway", stopped)))
    }

    /// Gives somebody whose environment is open their role on the instance again.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave them without the role.
    pub async fn bind(&self, workspace: &Workspace) -> Result<(), EnvironmentError> {
        self.shared.bind(workspace).await
    }

    /// Whether the instance is there and prepared for people.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.upstream.admin.is_connected() && self.shared.upstream.agents.is_prepared()
    }

    /// What runs on the instance go through.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.shared.upstream.gate
    }

    /// The instance's administration channel.
    #[must_use]
    pub fn admin(&self) -> &Admin {
        &self.shared.upstream.admin
    }

    /// Whether people's model calls go through egress, which refuses those for which nothing is left.
    #[must_use]
    pub fn use_egress(&self) -> bool {
        !self.shared.offer.is_of_the_instance()
    }

    /// The id of the auth profile in somebody's workspace.
    #[must_use]
    pub fn auth_profile_id(&self, workspace: &Workspace) -> String {
        workspace.auth_profile_id(self.shared.offer.first_provider())
    }
}

impl fmt::Debug for Environments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environments")
            .field("instance", &self.shared.upstream.name)
            .finish_non_exhaustive()
    }
}

impl WorkspaceResolver for Environments {
    fn resolve(&self, user_id: &Arc<str>) -> ResolveFuture {
        if let Some(workspace) = self.shared.find_open(user_id) {
            return ResolveFuture::ready(Ok(workspace));
        }
        let (shared, user_id) = (Arc::clone(&self.shared), Arc::clone(user_id));
        ResolveFuture::boxed(async move { shared.resolve_stored(&user_id).await })
    }
}

/// Somebody's turn to open an environment: one at a time for each user.
struct Opening {
    shared: Arc<Shared>,
    user_id: Arc<str>,
    gate: Arc<Mutex<()>>,
}

// === impl Opening ===

impl Opening {
    fn new(shared: &Arc<Shared>, user_id: &Arc<str>) -> Self {
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

// === impl Shared ===

impl Shared {
    fn find_open(&self, user_id: &Arc<str>) -> Option<Arc<Workspace>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let workspace = open.get(user_id)?;
        // One whose keys were revoked is opened anew, with another.
        let is_whole = self.keys.has_key(user_id);
        is_whole.then(|| Arc::clone(workspace))
    }

    /// The workspace of somebody whose environment was opened before this gateway started.
    async fn resolve_stored(&self, user_id: &Arc<str>) -> Result<Arc<Workspace>, ResolveError> {
        let row = self
            .store
            .find_environment(user_id)
            .await
            .map_err(ResolveError::unavailable)?;
        match row {
            Some(row) if row.agent_ready => {
                let described = self
                    .provisioner
                    .describe(&Person::new(Arc::clone(user_id)))?;
                let workspace = described.with_instance(row.instance);
                Ok(Arc::new(workspace.with_slot(row.agent_id)))
            }
            _ => Err(ResolveError::NotProvisioned),
        }
    }

    async fn open(&self, identity: &Arc<Identity>) -> Result<Arc<Workspace>, EnvironmentError> {
        let user_id = identity.user_id();
        let person = self.person(identity).await?;
        // Of several gateways, too, one makes it.
        let _lease = match self.store.is_shared() {
            true => Some(self.lease(user_id).await?),
            false => None,
        };
        let described = self.provisioner.describe(&person)?;
        let instance = &*self.upstream.name;
        let prepared = self.upstream.agents.prepared().await;
        prepared.map_err(|error| unavailable("instance", error))?;
        if let Some((agent, key_id)) = self.find_in_use(user_id, &described).await? {
            self.provision(&person.with_key_id(key_id)).await?;
            let workspace = described.with_instance(instance).with_slot(agent);
            return Ok(self.keep(workspace));
        }
        let agent: Arc<str> = self.assign(&described).await?.into();
        let minted = self.keys.mint(user_id);
        let minted = minted.map_err(|error| unavailable("randomness", error))?;
        self.provision(&person.with_key_id(minted.row.key_id.as_str()))
            .await?;
        let spec = self.spec(Arc::clone(&agent), &described);
        let workspace = described.with_instance(instance).with_slot(agent);
        self.make_agent(&workspace, spec, minted).await?;
        Ok(self.keep(workspace))
    }

    async fn lease(&self, user_id: &Arc<str>) -> Result<Lease, EnvironmentError> {
        let lease = Lease::take(&self.store, format!("environment {user_id}")).await;
        let lease = lease.map_err(|error| unavailable("store", error))?;
        // Another one may have made it since its keys were last heard of.
        let key = self.store.find_key_of(user_id).await;
        if let Some(key) = key.map_err(|error| unavailable("store", error))? {
            self.keys.admit(&key);
        }
        Ok(lease)
    }

    fn keep(&self, workspace: Workspace) -> Arc<Workspace> {
        let workspace = Arc::new(workspace);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(Arc::clone(workspace.user_id()), Arc::clone(&workspace));
        workspace
    }

    fn spec(&self, agent: Arc<str>, workspace: &Workspace) -> AgentSpec {
        let directory = workspace.instance_workspace_dir().display().to_string();
        let user = workspace.name().as_str().into();
        AgentSpec::new(agent, user, directory, &self.offer)
    }

    /// Finds somebody a place on the instance.
    async fn assign(&self, workspace: &Workspace) -> Result<String, EnvironmentError> {
        let in_use = self
            .upstream
            .agents
            .slots_in_use(workspace.name().as_str())
            .await;
        let in_use = in_use.map_err(|error| unavailable("instance", error))?;
        let (instance, slots) = (&*self.upstream.name, self.upstream.slots);
        let user_id = workspace.user_id();
        let slot = self
            .store
            .assign_slot(user_id, instance, slots, in_use)
            .await;
        let slot = slot.map_err(|error| unavailable("store", error))?;
        slot.map(slot_name).ok_or_else(|| {
            warn!(slots, "instance has no place left");
            EnvironmentError::Full
        })
    }

    /// Who the environment is for, as the issuer says now or, where the credential is one of ours, has said at the sign-in
    /// behind it.
    async fn person(&self, identity: &Arc<Identity>) -> Result<Person, EnvironmentError> {
        let is_fresh = identity.credential_id().is_none()
            && identity.issuer() != password::ISSUER
            && describes_user(identity);
        let mut known = None;
        if !is_fresh {
            let user = self.store.find_user(identity.user_id()).await;
            known = user.map_err(|error| unavailable("store", error))?;
        }
        let (name, email) = match known {
            Some(user) => (user.name, user.email),
            None => {
                let put = self.store.put_user(identity).await;
                put.map_err(|error| unavailable("store", error))?;
                (
                    identity.name().map(str::to_owned),
                    identity.email().map(str::to_owned),
                )
            }
        };
        Ok(described_person(identity.user_id(), name, email))
    }

    /// Somebody's agent on the instance and the key that it uses, if it is there and is as it must be now.
    async fn find_in_use(
        &self,
        user_id: &Arc<str>,
        workspace: &Workspace,
    ) -> Result<Option<(Arc<str>, String)>, EnvironmentError> {
        let row = self.store.find_environment(user_id).await;
        let row = row.map_err(|error| unavailable("store", error))?;
        let Some(row) = row.filter(|row| row.agent_ready && row.instance == *self.upstream.name)
        else {
            return Ok(None);
        };
        let spec = self.spec(row.agent_id.into(), workspace);
        let as_it_must_be = row.agent_spec == spec.fingerprint();
        let Some(key_id) = self.keys.find_key_id(user_id).filter(|_| as_it_must_be) else {
            return Ok(None);
        };
        let exists = self.upstream.agents.exists(&spec.agent).await;
        let exists = exists.map_err(|error| unavailable("instance", error))?;
        Ok(exists.then_some((spec.agent, key_id)))
    }

    async fn provision(&self, person: &Person) -> Result<(), EnvironmentError> {
        match self.provisioner.provision(person).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match ResolveError::from(error) {
                ResolveError::InvalidUser(error) => EnvironmentError::InvalidUser(error),
                error => unavailable("workspace", error),
            }),
        }
    }

    /// Makes the agent with a new key. The store has the key before the instance does: whatever happens in between, no
    /// agent has a key that is not known here, and the next call makes agent and key anew.
    async fn make_agent(
        &self,
        workspace: &Workspace,
        spec: AgentSpec,
        minted: MintedKey,
    ) -> Result<(), EnvironmentError> {
        let MintedKey {
            row: key,
            key: virtual_key,
        } = minted;
        let agent = Arc::clone(&spec.agent);
        let row = EnvironmentRow {
            user_id: Arc::clone(workspace.user_id()),
            instance: self.upstream.name.to_string(),
            agent_id: agent.to_string(),
            agent_spec: spec.fingerprint(),
            workspace_dir: workspace.workspace_dir().display().to_string(),
            profile_name: workspace.profile_name().to_owned(),
            auth_profile_id: workspace.auth_profile_id(self.offer.first_provider()),
            agent_ready: false,
        };
        let put = self.store.put_environment(row, key.clone()).await;
        put.map_err(|error| unavailable("store", error))?;
        self.keys.admit(&key);
        let made = self.upstream.agents.make(spec, virtual_key).await;
        made.map_err(|error| unavailable("instance", error))?;
        let ready = self
            .store
            .agent_ready(workspace.user_id(), key.key_id.clone())
            .await;
        ready.map_err(|error| unavailable("store", error))?;
        self.keys.keep_only(&key);
        info!(agent = &*agent, "environment made");
        Ok(())
    }

    async fn bind(&self, workspace: &Workspace) -> Result<(), EnvironmentError> {
        let slot = workspace.slot().unwrap_or_default();
        let bound = self.upstream.bind(workspace.name().as_str(), slot).await;
        bound.map_err(|error| unavailable("instance", error))
    }
}

fn described_person(user_id: &Arc<str>, name: Option<String>, email: Option<String>) -> Person {
    let mut person = Person::new(Arc::clone(user_id));
    if let Some(name) = name {
        person = person.with_name(name);
    }
    if let Some(email) = email {
        person = person.with_email(email);
    }
    person
}

/// Whenever the instance was away, looks again at what it has when somebody comes: it may have been restored from a
/// backup.
async fn look_again(admin: Admin, shared: Weak<Shared>) {
    loop {
        admin.reconnected().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut open = shared.open.write().unwrap_or_else(PoisonError::into_inner);
        open.clear();
    }
}

fn unavailable(
    what: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> EnvironmentError {
    warn!(
        what,
        error = &source as &dyn std::error::Error,
        "environment cannot be opened"
    );
    EnvironmentError::Unavailable {
        what,
        source: Box::new(source),
    }
}
