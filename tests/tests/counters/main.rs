//! Counters that three gateways share, in Redis and in Postgres: they hold under load and whatever happens to anybody.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; the numbers are for people"
)]

mod faults;
mod fleet;
mod last_unit;
mod shared;
