//! The ledger in an SQLite file.
//!
//! Records go through a bounded queue to one writer thread, which commits all that is queued in one transaction. What
//! is committed is settled, if a settler was started: at once, again after a failure, and at the next start for what a
//! crash left over. Queries are read meanwhile, one at a time, through a connection of their own; other connections may
//! read the file beside it.
//!
//! # Examples
//!
//! ```
//! # use std::time::{Duration, SystemTime};
//! use tower_usage::{Operation, Sink, UsageRecord, sqlite::{LedgerOptions, SqliteLedger}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("usage.db");
//! let ledger = SqliteLedger::open(path, LedgerOptions::new())?;
//! ledger.admit()?;
//! let mut record = UsageRecord::new("alice".into(), Operation::ModelCall);
//! record.tokens.input = Some(20);
//! # let now = record.admitted_at;
//! ledger.record(record);
//! ledger.flush().await?;
//!
//! let hour = Duration::from_secs(3600);
//! assert_eq!(ledger.sum("alice", now - hour, now + hour)?.total_tokens, 20);
//! ledger.close().await?;
//! # Ok(())
//! # }
//! ```

mod backlog;
mod command;
mod error;
mod export;
mod joins;
mod ledger;
mod options;
#[cfg(feature = "postgres")]
pub(crate) mod outbox;
mod query;
pub(crate) mod replay;
mod reprice;
pub(crate) mod row;
mod schema;
mod settle;
mod settler;
#[cfg(test)]
pub(crate) mod upgrades;
mod writer;

pub use self::{
    error::LedgerError,
    export::Export,
    ledger::{Mark, SqliteLedger},
    options::LedgerOptions,
    query::Used,
    reprice::Repriced,
    schema::SCHEMA,
    settle::{Settle, SettleError, SettleFuture},
};
pub use crate::query::{Group, GroupBy, GroupTotal, Sum};
