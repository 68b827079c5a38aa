//! The real OpenClaw gateway, headless and offline, as a process of the test.

mod config;
mod instance;

pub use config::{PROXY_ORIGIN, USER_HEADER};
pub use instance::{OpenClaw, operator};
