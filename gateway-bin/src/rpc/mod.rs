//! Frames as calls of a `tower::Service`: every request frame of a socket passes through the same layers as an HTTP
//! request, by these implementations of their policies.

mod forward;
mod message;
mod quota;
mod usage;
mod workspace;

pub use self::forward::{Forward, ForwardFuture, Outgoing, Reply};
pub use self::message::{RpcRequest, RpcResponse, StartedRun, Turn};
pub use self::quota::{DenyFrame, RunCharge, exceeded};
pub use self::usage::{RunMeter, RunTap};
pub use self::workspace::BindFrame;
