//! Nothing is lost: when the gateway is killed, when the power is cut, when the disk is full, when Postgres is away.
//!
//! Model calls go through egress to a provider of the test's own. Whatever happens, each of them is in the ledger once: exact
//! if it ended, else as it began, estimated and marked; and ledger, settled records and counters say the same.
//! `KILL_ROUNDS` (default 3) and `KILL_SEED` choose how often the gateway is killed, and when; `OUTAGE_SECS` (default 5) how
//! long Postgres is away.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; the numbers are for people"
)]

mod books;
mod full;
mod killed;
mod load;
mod place;
mod shipping;
mod storage;
