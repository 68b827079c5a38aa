//! OpenClaw's own calls to model providers: known by a virtual key, held to a quota, metered, and sent on with the
//! provider's real key.

mod credential;
mod deny;
mod disabled;
mod elsewhere;
mod forward;
mod key;
mod own_keys;
mod policy;
mod refusal;
mod route;
mod target;
mod workspace;

pub use self::credential::{KeySource, RejectModelCall};
pub use self::deny::DenyModelCall;
pub use self::disabled::{IsDisabled, RefuseDisabled, RefusesDisabled};
pub use self::forward::{ForwardCall, ProviderClient};
pub use self::key::{MintedKey, VirtualKeys};
pub use self::own_keys::{OwnKeyError, OwnKeys};
pub use self::policy::{ModelCallCharge, RunPrepared, attribute};
pub use self::route::{Destination, Egress};
pub use self::target::Target;
pub use self::workspace::BindModelCall;
