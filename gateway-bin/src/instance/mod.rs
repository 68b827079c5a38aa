//! OpenClaw gateways behind us: how we reach one, sign in for a person, and administer it.

mod admin;
mod agents;
mod device;
mod dial;
mod gate;
mod offer;
mod requirements;
mod roles;

use std::sync::Arc;

pub use self::admin::{Admin, AdminError, RunMessage};
pub use self::agents::{AgentSpec, Agents};
pub use self::device::Device;
pub use self::dial::{DialError, Dialer, Person, Socket};
pub use self::gate::Gate;
pub use self::offer::Offer;
pub use self::requirements::unmet_requirements;
pub(crate) use self::roles::slot_of;
pub use self::roles::{SlotsInUse, slot_name};

/// One instance and how it is worked with; clones share it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Opens connections to it.
    pub dialer: Arc<Dialer>,
    /// Administers it.
    pub admin: Admin,
    /// How many people it takes.
    pub slots: u32,
    /// Makes people's agents on it.
    pub agents: Agents,
    /// When its configuration may change.
    pub gate: Gate,
}

// === impl Upstream ===

impl Upstream {
    /// An instance with a writer of its agents on the administration channel.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, dialer: Arc<Dialer>, admin: Admin, slots: u32) -> Self {
        let gate = Gate::default();
        Self {
            name: name.into(),
            agents: Agents::start(admin.clone(), Arc::clone(&dialer), gate.clone(), slots),
            dialer,
            admin,
            slots,
            gate,
        }
    }

    /// Lets the person whom the instance knows as `user` use the slot of that name, and nothing else.
    ///
    /// # Errors
    ///
    /// See [`AdminError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the person without the role; calling it again gives it.
    pub async fn bind(&self, user: &str, slot: &str) -> Result<(), AdminError> {
        roles::give(&self.admin, &self.dialer, &[(user, slot)]).await
    }
}
