//! Where people work: a directory here, an agent on an instance, and a virtual key that joins its model calls to its
//! owner.

mod drained;
mod removal;
mod route;
mod spawned;
mod virtual_key;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tower_sso::Identity;
use tower_workspace::fs::{Person, Provisioner};
use tower_workspace::{NameError, ResolveError, ResolveFuture, Workspace, WorkspaceResolver};
use tracing::{info, warn};

use crate::cells::{CellError, Cells, InUse};
use crate::config::Affinity;
use crate::egress::{MintedKey, VirtualKeys};
use crate::instance::{AgentSpec, Standing, Upstream, Upstreams};
use crate::lease::Lease;
use crate::password;
use crate::people::describes_user;
use crate::protocol::ExtendedChat;
use crate::store::{EnvironmentRow, KeyAgent, Store};

/// Longest wait for an environment; an instance under load takes some seconds for an agent.
const OPEN_TIMEOUT: Duration = Duration::from_secs(45);

/// Said to somebody for whom there is [no sandbox](EnvironmentError::NoSandbox).
pub(crate) const NO_SANDBOX: &str =
    "your tools must run in a sandbox, and there is none; tell your administrator";

/// Everybody's environments; clones share them.
#[derive(Clone)]
pub struct Environments {
    shared: Arc<Shared>,
}

/// Where somebody works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Environment {
    /// Their workspace.
    pub workspace: Arc<Workspace>,
    /// The instance that their agent is on.
    pub upstream: Arc<Upstream>,
    /// That it is used, where it is a cell that would be stopped else.
    in_use: Option<Arc<InUse>>,
}

/// Why somebody has no environment right now.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// The user id cannot name a directory.
    #[error("user id can have no workspace")]
    InvalidUser(#[from] NameError),
    /// All places are taken.
    #[error("no instance has a place left")]
    Full,
    /// The instance that has somebody's conversations is not there.
    #[error("instance {0} is away")]
    Away(Arc<str>),
    /// Their tools must run in a sandbox, and the instance has none.
    #[error("instance has no sandbox")]
    NoSandbox,
    /// Their cell does not run yet, or cannot.
    #[error("cell: {0}")]
    Cell(#[from] CellError),
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

/// How somebody's tools are to run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tools {
    AsTheyWere,
    InSandbox,
}

struct Shared {
    store: Store,
    provisioner: Provisioner,
    /// Those for instances that see the root elsewhere, by where.
    elsewhere: std::sync::Mutex<HashMap<PathBuf, Provisioner>>,
    keys: VirtualKeys,
    upstreams: Upstreams,
    affinity: Affinity,
    cells: Option<Cells>,
    /// Environments that were opened since the start.
    open: RwLock<HashMap<Arc<str>, Open>>,
    /// Environments that are being opened: one at a time for each user.
    opening: std::sync::Mutex<HashMap<Arc<str>, Arc<Mutex<()>>>>,
}

/// An environment, as it was when it was opened.
struct Open {
    environment: Environment,
    /// How many changes the instance had announced then; `None`: it was not opened, and is only known.
    changes: Option<u64>,
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

// === impl Environments ===

impl Environments {
    /// The environments on these instances.
    #[must_use]
    pub fn new(
        store: Store,
        provisioner: Provisioner,
        keys: VirtualKeys,
        upstreams: Upstreams,
        affinity: Affinity,
    ) -> Self {
        Self::with_cells(store, provisioner, keys, upstreams, affinity, None)
    }

    /// The same, where whoever has no cell gets one of these, which are among the instances as long as they run.
    #[must_use]
    pub fn with_cells(
        store: Store,
        provisioner: Provisioner,
        keys: VirtualKeys,
        upstreams: Upstreams,
        affinity: Affinity,
        cells: Option<Cells>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                provisioner,
                elsewhere: std::sync::Mutex::default(),
                keys,
                upstreams,
                affinity,
                cells,
                open: RwLock::default(),
                opening: std::sync::Mutex::default(),
            }),
        }
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
    pub async fn open(&self, identity: &Arc<Identity>) -> Result<Environment, EnvironmentError> {
        self.open_as(identity, Tools::AsTheyWere).await
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

    /// Whether people can be sent somewhere: to a pool, or where there is none to a cell, also to one that has to be started.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        if self.shared.cells.is_some() {
            return true;
        }
        let pools = self.upstreams().pools();
        let upstreams = match pools.is_empty() {
            true => self.upstreams().all(),
            false => pools,
        };
        upstreams.iter().any(|upstream| upstream.is_ready())
    }

    /// Whether `user_id` can be sent somewhere.
    #[must_use]
    pub fn is_ready_for(&self, user_id: &str) -> bool {
        let cell = self.upstreams().cell_of(user_id);
        cell.is_some_and(|cell| cell.is_ready()) || self.is_ready()
    }

    /// The instances.
    #[must_use]
    pub fn upstreams(&self) -> &Upstreams {
        &self.shared.upstreams
    }

    /// The instance that somebody's workspace is on, if it is still there.
    #[must_use]
    pub fn upstream_of(&self, workspace: &Workspace) -> Option<Arc<Upstream>> {
        self.upstreams().get(workspace.instance()?)
    }

    /// The instance whose page somebody sees: the one that they have a place on, or else the first that would take them.
    ///
    /// # Errors
    ///
    /// See [`EnvironmentError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does nothing.
    pub async fn upstream_for(
        &self,
        user_id: &Arc<str>,
    ) -> Result<Arc<Upstream>, EnvironmentError> {
        match self.shared.find_open(user_id) {
            Some(environment) => Ok(environment.upstream),
            None => {
                self.shared.wake(user_id)?;
                Ok(self.shared.route(user_id).await?.upstream)
            }
        }
    }

    /// What makes, counts and exports people's directories.
    #[must_use]
    pub fn provisioner(&self) -> &Provisioner {
        &self.shared.provisioner
    }

    /// The run of `user_id` that was being prepared is.
    pub fn run_prepared(&self, user_id: &Arc<str>) {
        if let Some(environment) = self.shared.find_whole(user_id) {
            environment.upstream.gate.leave(user_id);
        }
    }
}

impl fmt::Debug for Environments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environments")
            .field("upstreams", &self.shared.upstreams)
            .finish_non_exhaustive()
    }
}

impl WorkspaceResolver for Environments {
    fn resolve(&self, user_id: &Arc<str>) -> ResolveFuture {
        // Model calls of a cell come by here, too.
        self.shared.touch(user_id);
        if let Some(environment) = self.shared.find_whole(user_id) {
            return ResolveFuture::ready(Ok(environment.workspace));
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
    /// An environment that is as it was opened, wherever people are sent now.
    fn find_whole(&self, user_id: &Arc<str>) -> Option<Environment> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let Open { environment, .. } = open.get(user_id)?;
        // One whose keys were revoked is opened anew, with another.
        let is_whole = self.keys.has_key(user_id);
        is_whole.then(|| environment.clone())
    }

    /// An environment that somebody who comes now goes on in.
    fn find_open(&self, user_id: &Arc<str>) -> Option<Environment> {
        let environment = self.find_whole(user_id)?;
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let upstream = &environment.upstream;
        // Whenever the instance was away it is looked at again: it may have been restored from a backup; and whenever
        // somebody has changed its configuration or a role.
        let changes = open.get(user_id)?.changes;
        let is_as_it_was = changes.is_some_and(|then| then >= upstream.admin.changes());
        let goes_on =
            is_as_it_was && !upstream.removed.is_cancelled() && self.goes_on(user_id, upstream);
        goes_on.then_some(environment)
    }

    /// The same, unless another gateway has sent them somewhere else, or their tools are to run otherwise.
    async fn find_usable(
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
        let upstream = &environment.upstream;
        let row = self.store.find_environment(user_id).await;
        let row = row.map_err(|error| unavailable("store", error))?;
        let mut is_there = row.is_some_and(|row| *row.instance == *upstream.name);
        if is_there && !upstream.is_cell() {
            let stored = self.store.find_assignment(user_id).await;
            let stored = stored.map_err(|error| unavailable("store", error))?;
            is_there = stored.is_some_and(|name| *name == *upstream.name);
        }
        Ok(is_there.then_some(environment))
    }

    fn forget(&self, user_id: &Arc<str>) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(user_id);
    }

    /// The workspace of somebody whose environment was opened before this gateway started.
    async fn resolve_stored(&self, user_id: &Arc<str>) -> Result<Arc<Workspace>, ResolveError> {
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

    async fn open(
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
        let person = person.with_key_id(minted.row.key_id.as_str());
        self.provision(&upstream, &person).await?;
        let spec = spec(&upstream, Arc::clone(&agent), &described)?;
        let workspace = described.with_instance(Arc::clone(&upstream.name));
        let workspace = workspace.with_slot(agent);
        self.make_agent(&upstream, &workspace, spec, minted).await?;
        Ok(self.keep(workspace, &upstream, changes))
    }

    /// The provisioner of the directories of those who work on an instance.
    fn provisioner_of(&self, upstream: &Upstream) -> Provisioner {
        self.owned_by_cell(self.provisioner_at(upstream), upstream)
    }

    /// The provisioner for where an instance sees the root.
    fn provisioner_at(&self, upstream: &Upstream) -> Provisioner {
        let Some(root) = &upstream.workspace_root else {
            return self.provisioner.clone();
        };
        let mut elsewhere = self
            .elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let provisioner = elsewhere.entry(root.clone());
        let provisioner =
            provisioner.or_insert_with(|| self.provisioner.clone().instance_root(root));
        provisioner.clone()
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

    /// Keeps an environment that was opened after so many changes of its instance.
    fn keep(&self, workspace: Workspace, upstream: &Arc<Upstream>, changes: u64) -> Environment {
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

    /// Somebody's agent on the instance and the key that it uses, if it is there. It is put right where somebody has changed
    /// it.
    async fn find_in_use(
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

    async fn provision(
        &self,
        upstream: &Upstream,
        person: &Person,
    ) -> Result<(), EnvironmentError> {
        match self.provisioner_of(upstream).provision(person).await {
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
fn spec(
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
