//! Where people work: a directory here, an agent on an instance, and a virtual key that joins its model calls to its
//! owner.

mod agent;
mod drained;
mod environments;
mod error;
mod known;
mod make;
mod of_person;
mod opening;
mod people;
mod remedy;
mod removal;
mod route;
mod shared;
mod spawned;
mod virtual_key;

pub use environments::Environments;
pub use error::EnvironmentError;
pub(crate) use error::NO_SANDBOX;
pub use of_person::Environment;
