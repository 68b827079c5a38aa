//! Cells that the gateway starts itself: an OpenClaw process for each person, with a directory, a port, a password and,
//! unless people trust each other, a user of the operating system of its own.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `registry` | [`Cells`]: whose cell runs, who waits, and for how many there is room |
//! | `cell` | one cell: what it does, who uses it |
//! | `life` | from its start to its end |
//! | `start`, `openclaw` | how its process is started, and how it is configured |
//! | `adopt` | what becomes of processes that an earlier gateway has started |
//! | `directory`, `record` | what is kept of it on disk |
//! | `process`, `members` | processes that are not mixed up with others, and which of them are a cell's |
//! | `ports`, `probe`, `backoff` | where it listens, whether it answers, when it is tried again |
//!
//! A process outlives the gateway that has started it, also one that was killed. The next gateway finds it by its record,
//! and whatever else is a cell's by its user or its environment: nothing is left that nobody knows of.

mod adopt;
mod backoff;
mod cell;
mod directory;
mod error;
mod life;
mod members;
mod openclaw;
mod ports;
mod probe;
mod process;
mod record;
mod registry;
mod settings;
mod sole;
mod start;

#[cfg(test)]
mod tests;

pub use self::cell::InUse;
pub use self::error::{CellError, CellsError};
pub(crate) use self::ports::find_free_port;
pub(crate) use self::registry::PREFIX;
pub use self::registry::{Cells, ListedCell, Roster, is_spawned};
pub use self::settings::Settings;
