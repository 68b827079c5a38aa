use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::admin::{Admin, AdminError};
use super::agents::Agents;
use super::cell::CELL_AGENT;
use super::device::Device;
use super::dial::Dialer;
use super::fitness::Fitness;
use super::gate::Gate;
use super::health::{Health, Tolerance};
use super::offer::Offer;
use super::roles;
use crate::config::Instance;
use crate::protocol::Policy;
use crate::telemetry::OpenSockets;

/// One instance and how it is worked with.
#[derive(Debug)]
#[non_exhaustive]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Opens connections to it.
    pub dialer: Arc<Dialer>,
    /// Whose cell it is, by their user id; `None`: it is a pool.
    pub owner: Option<Arc<str>>,
    /// Administers it.
    pub admin: Admin,
    /// How many people it takes.
    pub slots: u32,
    /// Makes people's agents on it.
    pub agents: Agents,
    /// When its configuration may change.
    pub gate: Gate,
    /// What its agents may use.
    pub offer: Offer,
    /// Where it sees the root of people's directories, if elsewhere than this host does.
    pub workspace_root: Option<PathBuf>,
    /// Whether its `chat.send` takes `workspaceDir` and `authProfileId`.
    pub extended_chat_params: bool,
    /// Whether people are sent there.
    pub health: Health,
    /// Whether its own configuration is as it must be.
    pub fitness: Fitness,
    /// The sockets that people have there.
    pub sockets: OpenSockets,
    /// Ends whatever runs for it or on it.
    pub removed: CancellationToken,
    is_drained: AtomicBool,
}

// === impl Upstream ===

impl Upstream {
    /// Starts to work with an instance, until `removed`. `on_event` is called with every event that it announces, by
    /// its name, and must not wait.
    ///
    /// # Errors
    ///
    /// What of its configuration cannot be used.
    pub fn start(
        instance: &Instance,
        device: Arc<Device>,
        offer: Offer,
        tolerance: Tolerance,
        on_event: impl Fn(&str, &RawValue) + Send + Sync + 'static,
        removed: CancellationToken,
    ) -> Result<Self, String> {
        let dialer = Arc::new(Dialer::new(instance, device)?);
        let admin = Admin::start(Arc::clone(&dialer), on_event, removed.clone());
        let (gate, health) = (Gate::default(), Health::new(tolerance));
        let watch = health.clone().watch(Arc::clone(&dialer));
        tokio::spawn(removed.clone().run_until_cancelled_owned(watch));
        let (fitness, watch) = Fitness::watch(admin.clone(), instance.clone());
        tokio::spawn(removed.clone().run_until_cancelled_owned(watch));
        let (writer, slots) = (Arc::clone(&dialer), instance.places());
        let owner: Option<Arc<str>> = instance.owner().map(Into::into);
        let agents = match owner {
            Some(_) => Agents::start_in_cell(admin.clone(), gate.clone()),
            None => Agents::start(admin.clone(), writer, gate.clone(), slots),
        };
        Ok(Self {
            name: instance.name.as_str().into(),
            agents,
            dialer,
            owner,
            admin,
            slots,
            gate,
            offer,
            workspace_root: instance.workspace_root.clone(),
            extended_chat_params: instance.extended_chat_params,
            health,
            fitness,
            sockets: OpenSockets::default(),
            removed,
            is_drained: AtomicBool::new(false),
        })
    }

    /// Whether it is somebody's own.
    #[must_use]
    pub const fn is_cell(&self) -> bool {
        self.owner.is_some()
    }

    /// What a person may do there.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        match self.owner {
            Some(_) => Policy::Cell,
            None => Policy::Pool,
        }
    }

    /// Lets the person whom the instance knows as `user` use the slot of that name, and nothing else. In a cell there are
    /// none, and nothing is done.
    ///
    /// # Errors
    ///
    /// See [`AdminError`]; [`AdminError::Refused`] where somebody else has the slot by now.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the person without the role; calling it again gives it.
    pub async fn bind(&self, user: &str, slot: &str) -> Result<(), AdminError> {
        if self.is_cell() {
            return Ok(());
        }
        if self.agents.is_of_other(user, slot).await? {
            return Err(AdminError::Refused {
                method: "users.setRole",
                message: "somebody else has that slot".to_owned(),
                retry_after: None,
            });
        }
        roles::give(&self.admin, &self.dialer, &[(user, slot)]).await
    }

    /// Ends the agent of a slot with its conversations, and takes the slot's role from the person whom the instance knows
    /// as `user`. Their files are left alone. From then on the slot is in use by somebody who never comes: OpenClaw keeps in
    /// mind which agents it has deleted, and restarts at every change if there is one of the same id again.
    ///
    /// In a cell the agent stays, without anything that we gave it; its conversations are deleted, and the main one, which
    /// always is, begins anew.
    ///
    /// # Errors
    ///
    /// See [`AdminError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave some of it; calling it again goes on from there.
    pub async fn end(&self, user: &str, slot: &str) -> Result<(), AdminError> {
        if self.is_cell() {
            return self.agents.end(user, CELL_AGENT, &self.gate).await;
        }
        // No name of a person has a dot in it.
        let nobody = format!("retired.{slot}");
        roles::give(&self.admin, &self.dialer, &[(&nobody, slot)]).await?;
        roles::take(&self.admin, user, slot).await?;
        self.agents.end(user, slot, &self.gate).await
    }

    /// Whether it is there and prepared for people.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.admin.is_connected()
            && self.agents.is_prepared()
            && self.fitness.is_good()
            && self.health.is_ready()
    }

    /// Whether nobody new is sent there.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Acquire)
    }

    /// Whether somebody new may be sent there.
    #[must_use]
    pub fn takes_people(&self) -> bool {
        self.is_ready() && !self.is_drained() && !self.health.is_out()
    }

    /// Sends nobody new there, or does again.
    pub fn set_drained(&self, is_drained: bool) {
        self.is_drained.store(is_drained, Ordering::Release);
    }
}
