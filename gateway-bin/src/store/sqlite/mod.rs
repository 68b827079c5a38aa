//! SQLite, in a file of this gateway alone.

mod file;
mod schema;
mod statement;

pub use self::file::FileLock;
pub(super) use self::file::SqliteFile;
pub(super) use self::statement::{apply, query};
