//! The reference gateway: wiring of `tower-sso`, `tower-workspace`, `tower-quota` and `tower-usage`, and the OpenClaw
//! protocol. It has no policy of its own.
//!
//! Start reading at [`stack`]: the same four layers around request frames of a WebSocket, around OpenClaw's model
//! calls, and around the API.

pub mod alerts;
pub mod api;
pub mod audit;
pub mod cells;
pub mod cli;
pub mod client_address;
pub mod clock;
pub mod config;
pub mod counters;
pub mod dev;
pub mod egress;
pub mod environment;
mod follow;
pub mod instance;
mod lease;
pub mod observed;
pub mod openai;
pub mod operator;
pub mod password;
pub mod people;
pub mod plan;
pub mod prices;
pub mod protocol;
pub mod records;
pub mod rpc;
pub mod server;
pub mod shipping;
pub mod shutdown;
pub mod sign_in;
pub mod sinks;
pub mod snapshots;
pub mod socket;
pub mod stack;
pub mod store;
pub mod telemetry;
pub mod terms;
pub mod ui;
pub mod webhook;
