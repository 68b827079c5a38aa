//! OpenAI's HTTP API before OpenClaw's own: `/v1/chat/completions`, `/v1/responses` and `/v1/models`, for whoever is signed
//! in, as their own agent and nobody else.
//!
//! A run that is asked for here passes through the same layers as one that a frame asks for. Of a request nothing goes on as
//! it came: no header at all, and of the body what is known and harmless, written anew.

mod body;
mod call;
mod chat;
mod commands;
mod described;
mod forward;
mod members;
mod models;
mod policy;
mod refusal;
mod responses;
mod routes;
mod session;
mod strict;
mod watch;

pub use self::body::RunBody;
pub use self::call::{Endpoint, RunCall};
pub use self::forward::ForwardRun;
pub use self::policy::{BindRun, DenyRun, RejectRun};
pub(crate) use self::routes::{Runs, routes};
