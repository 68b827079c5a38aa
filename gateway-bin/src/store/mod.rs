//! The gateway's own state: in an SQLite file of this gateway, or in a Postgres that several gateways share.
//!
//! Statements are written once, in words that both databases have; where they have none in common there are two.

mod added_instances;
mod alerts;
mod audit;
mod cells;
mod counting;
mod database;
mod deletions;
mod deliveries;
mod drained;
mod environments;
mod error;
mod found;
mod identities;
mod inspect;
mod leases;
mod migrations;
mod observed;
mod postgres;
mod provider_keys;
mod row;
mod slots;
mod snapshots;
mod sqlite;
mod statement;
mod terms;
mod users;
mod virtual_keys;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod upgrades;

pub use self::added_instances::AddedInstanceRow;
pub use self::alerts::{Alert, AlertState};
pub use self::audit::{ActorKind, AuditFilter, AuditRow, Note, Outcome};
pub use self::database::Store;
pub use self::deletions::ListedUser;
pub use self::environments::EnvironmentRow;
pub use self::error::StoreError;
pub use self::found::{Found, find_in_database, find_in_file};
pub use self::identities::Link;
pub use self::inspect::{Inspected, inspect_server};
pub use self::migrations::{MIGRATIONS, TABLES};
pub use self::observed::Seen;
pub use self::provider_keys::ProviderKeyRow;
pub use self::slots::{Assigned, Candidate};
pub use self::snapshots::{KeyCounts, SandboxState, SnapshotRow};
pub use self::sqlite::FileLock;
pub use self::users::User;
pub use self::virtual_keys::{KeyAgent, KeyChange, NewestKey, VirtualKeyRow};
