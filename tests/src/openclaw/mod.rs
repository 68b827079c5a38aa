//! The real OpenClaw gateway, headless and offline, as a process of the test.

mod config;
mod identity;
mod instance;

pub use config::{PROXY_ORIGIN, USER_HEADER};
pub use identity::dial_as;
pub use instance::{OpenClaw, operator};
