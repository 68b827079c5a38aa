//! SQLite, in a file of this gateway alone.

mod file;
mod schema;
mod statement;

pub(super) use self::file::SqliteFile;
pub(super) use self::statement::{apply, query};
