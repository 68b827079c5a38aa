//! Postgres, which gateways share.

mod connection;
mod inspect;
mod schema;
mod server;
mod statement;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod races;

pub(super) use self::inspect::inspect;
pub(super) use self::server::{Server, lock};
pub(super) use self::statement::query;
