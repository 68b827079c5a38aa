//! The gateway under test, as a process.

mod config;
mod process;

pub use config::Config;
pub use process::Gateway;
