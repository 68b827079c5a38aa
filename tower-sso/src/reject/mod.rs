//! Refusals: what they are, and their form in a protocol.

mod http;
mod policy;

pub use self::http::{HttpReject, InvalidRealm};
pub use self::policy::{Reject, Rejection};
