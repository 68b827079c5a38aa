//! The ledger in Postgres, against the server that `TOWER_USAGE_TEST_POSTGRES` names: its URL, of a user who may make
//! databases. Each test makes one of its own.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

#[cfg(test)]
mod faults;
#[cfg(test)]
mod months;
#[cfg(test)]
mod queries;
#[cfg(test)]
mod shipping;
#[cfg(test)]
mod support;
#[cfg(test)]
mod wire;
