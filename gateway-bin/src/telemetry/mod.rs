//! What the gateway shows of itself: metrics, its log, and traces.
//!
//! Labels come from closed sets, or from the configuration: never from what somebody sends. So there are as many series
//! with a million people as with one.

mod catalog;
pub mod context;
mod exposition;
mod gauges;
mod instances;
mod latency;
pub mod log;
mod recent_people;
mod sessions;
pub mod trace;
mod upkeep;
mod verification;

pub use self::catalog::{CATALOG, Kind, Labels, Metric};
pub use self::context::UserHash;
pub use self::exposition::{Exposition, describe, recorder};
pub(crate) use self::gauges::Counted;
pub use self::instances::{InstanceGauges, OpenSocket, OpenSockets};
pub(crate) use self::latency::begin as begin_request;
pub use self::latency::{Connecting, Latency, timed};
pub use self::recent_people::RecentPeople;
pub use self::sessions::TimedSessions;
pub(crate) use self::upkeep::Upkeep;
pub use self::verification::Verifications;
