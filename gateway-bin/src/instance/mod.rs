//! OpenClaw gateways behind us: how we reach one, sign in for a person, and administer it.

mod admin;
mod agents;
mod device;
mod dial;
mod fitness;
mod gate;
mod health;
mod offer;
mod requirements;
mod roles;
mod upstream;
mod upstreams;

pub use self::admin::{Admin, AdminError, RunMessage};
pub use self::agents::{AgentSpec, Agents};
pub use self::device::Device;
pub use self::dial::{DialError, Dialer, Person, Socket};
pub use self::fitness::Fitness;
pub(crate) use self::fitness::ask as unmet;
pub use self::gate::Gate;
pub use self::health::{Health, Tolerance};
pub use self::offer::Offer;
pub(crate) use self::roles::slot_of;
pub use self::roles::{SlotsInUse, slot_name};
pub use self::upstream::Upstream;
pub use self::upstreams::Upstreams;
