//! Refusals: what they are, and their form in a protocol.

mod http;
mod policy;

pub use self::{
    http::{InvalidRealm, RejectHttp},
    policy::{Reject, Rejection},
};
