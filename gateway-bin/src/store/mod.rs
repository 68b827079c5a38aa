//! The gateway's own state in an SQLite file.

mod alerts;
mod database;
mod environments;
mod identities;
mod schema;
mod terms;
mod users;

pub use self::alerts::{Alert, AlertState};
pub use self::database::{Store, StoreError};
pub use self::environments::{EnvironmentRow, VirtualKeyRow};
pub use self::identities::Link;
pub use self::users::User;
