//! SQLite, in a file of this gateway alone.

mod file;
mod found;
mod schema;
mod statement;

pub use self::file::FileLock;
pub(super) use self::file::SqliteFile;
pub(super) use self::found::find;
#[cfg(test)]
pub(super) use self::schema::migrate_to;
pub(super) use self::statement::{apply, query};
