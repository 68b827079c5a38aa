//! SQLite, in a file of this gateway alone.

mod file;
mod inspect;
mod schema;
mod statement;

pub use self::file::FileLock;
pub(super) use self::file::SqliteFile;
pub(super) use self::inspect::inspect;
pub(super) use self::schema::LATEST;
pub(super) use self::statement::{apply, query};
