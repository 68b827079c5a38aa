//! Postgres, which gateways share.

mod connection;
mod found;
mod inspect;
mod schema;
mod server;
mod statement;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod races;

pub(super) use self::found::find;
pub(super) use self::inspect::inspect;
#[cfg(test)]
pub(super) use self::schema::migrate_to;
pub(super) use self::server::{Server, lock};
pub(super) use self::statement::query;
