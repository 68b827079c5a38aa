//! OpenClaw gateways behind us: how we reach one, sign in for a person, and administer it.

mod admin;
mod agent_spec;
mod agents;
mod device;
mod dial;
mod difference;
mod fitness;
mod gate;
mod health;
mod offer;
mod requirements;
mod roles;
mod roster;
mod sandbox;
mod standing;
mod upstream;
mod upstreams;

pub use self::admin::{Admin, AdminError, RunMessage};
pub use self::agent_spec::AgentSpec;
pub use self::agents::Agents;
pub use self::device::Device;
pub use self::dial::{DialError, Dialer, Person, Socket};
pub use self::fitness::Fitness;
pub(crate) use self::fitness::{Looked, ask as look};
pub use self::gate::Gate;
pub use self::health::{Health, Tolerance};
pub use self::offer::Offer;
pub(crate) use self::roles::slot_of;
pub use self::roles::{SlotsInUse, slot_name};
pub use self::roster::{Roster, RosterError};
pub(crate) use self::sandbox::SLOT;
pub use self::sandbox::Sandbox;
pub use self::standing::Standing;
pub use self::upstream::Upstream;
pub use self::upstreams::Upstreams;
