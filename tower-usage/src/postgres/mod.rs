//! The ledger in Postgres, to which the SQLite files of all servers are shipped.
//!
//! A record is stored in the [file](crate::sqlite) first, which is all that a call waits for. A [`Shipper`] copies what is
//! stored there to Postgres, in order, some thousands at a time, and again what is changed later: a run that was joined, a
//! price. [`PostgresLedger`] answers there for all servers what an [`SqliteLedger`](crate::sqlite::SqliteLedger) answers
//! for one.
//!
//! - **Once by its id**, whatever ends in between: a server, the database, the network. What was shipped and not noted is
//!   shipped again, and finds itself there.
//! - **An answer is paid for once**, also if its repetition came to another server: with [`Once`](crate::Once).
//! - **Nothing waits for Postgres** but shipping. While it is away the file grows, and [`Shipper::backlog`] says how much
//!   and how old.
//! - **A database that lost something**, since it was restored from a backup or is another one, is shipped what it misses:
//!   it keeps how far each file was shipped, and where that is less than the file says, shipping goes back.
//!
//! # Tables
//!
//! `token_usage_logs` has the columns of the file's table, but for what is only of interest there (`settled`), and
//! `ledger` and `number`: which file a record came from, and its `seq` there. Times are `timestamptz`, ids `uuid`, money and
//! prices nano-USD in a `bigint`, `metadata` is `jsonb`. It is partitioned by month of admission in UTC. Whoever ships
//! makes the months, up to the next one, by the database's clock; months that are detached or dropped by others stay so
//! until a record of theirs comes, which goes to `token_usage_logs_other` if the month is merely detached. Records
//! from before 2020 or of a future that nobody has come to are there too, and are moved once their month is made.
//!
//! To ship takes the right to insert, select and update; to make months it takes owning the table. Without that, records of
//! months that are not there go to `token_usage_logs_other`.
//!
//! A NUL character, which Postgres has no place for, is stored as U+FFFD. `metadata` that is no JSON, or none that Postgres
//! keeps, is stored as a JSON object of its `text`. Times beyond the years that Postgres knows are stored as the last it knows.
//! What it will not take even so (a user id of several thousand bytes cannot be in an index) stays in the file, is noted
//! there in `token_usage_refused`, and shows in [`Unshipped::refused`].
//!
//! # TLS
//!
//! | `sslmode` of the URL | |
//! | --- | --- |
//! | `disable` | no TLS |
//! | `prefer`, the default | TLS if the server has it |
//! | `require` | TLS |
//!
//! Where there is TLS, the server's certificate is verified, other than by libpq: for the name in the URL, and against the
//! certificates that this machine trusts (`SSL_CERT_FILE` names others). One that does not verify is an error and never a
//! reason to go on without TLS.
//!
//! # Examples
//!
//! ```no_run
//! # use std::time::{Duration, SystemTime};
//! use tower_usage::{
//!     postgres::{PostgresLedger, Shipper},
//!     sqlite::{LedgerOptions, SqliteLedger},
//! };
//!
//! # async fn run(from: SystemTime, to: SystemTime) -> Result<(), Box<dyn std::error::Error>> {
//! let ledger = SqliteLedger::open("usage.db", LedgerOptions::new())?;
//! let everywhere = PostgresLedger::new("postgres://gateway@db.example/usage")?;
//! let shipper = Shipper::start(&ledger, &everywhere).await?;
//! // … serve …
//! let sum = everywhere.sum("alice", from, to).await?;
//! ledger.flush().await?;
//! tokio::time::timeout(Duration::from_secs(10), shipper.flush()).await??;
//! ledger.close().await?;
//! # Ok(())
//! # }
//! ```

mod batch;
mod connection;
mod export;
mod ledger;
mod link;
mod month;
#[cfg(test)]
mod plans;
mod row;
mod schema;
mod shipper;
mod shipping;
mod statements;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod upgrades;
mod value;

pub use self::{export::Export, ledger::PostgresLedger, schema::SCHEMA, shipper::Shipper};
pub(crate) use self::{ledger::Value, row::get, value::Text};
pub use crate::{
    query::{Group, GroupBy, GroupTotal, Sum},
    sqlite::{LedgerError, outbox::Unshipped},
};
