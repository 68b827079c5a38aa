//! OpenClaw gateways behind us: how we reach one, sign in for a person, and administer it.

mod admin;
mod agents;
mod device;
mod dial;
mod gate;
mod requirements;

use std::sync::Arc;

pub use self::admin::{Admin, AdminError, RunMessage};
pub use self::agents::{AgentSpec, Agents, ModelSpec, Offer};
pub use self::device::Device;
pub use self::dial::{DialError, Dialer, Person, Socket};
pub use self::gate::Gate;
pub use self::requirements::unmet_requirements;

/// One instance and how it is worked with; clones share it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Opens connections to it.
    pub dialer: Arc<Dialer>,
    /// Makes people's agents on it.
    pub agents: Agents,
    /// When its configuration may change.
    pub gate: Gate,
}

// === impl Upstream ===

impl Upstream {
    /// An instance with a writer of its agents on the administration channel.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, dialer: Arc<Dialer>, admin: Admin) -> Self {
        let gate = Gate::default();
        Self {
            name: name.into(),
            dialer,
            agents: Agents::start(admin, gate.clone()),
            gate,
        }
    }
}
