//! The gateway under test, as a process.

mod command;
mod config;
mod process;
mod virtual_key;

pub use command::{Said, command, command_by_socket};
pub use config::Config;
pub(crate) use config::STORE;
pub use process::Gateway;
pub use virtual_key::{person_with_key, person_with_shared_key};
