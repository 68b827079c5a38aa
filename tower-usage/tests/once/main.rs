//! What came to two servers is paid for at one, whatever they share: Postgres at the URL in `TOWER_USAGE_TEST_POSTGRES`, Redis
//! at the one in `TOWER_USAGE_TEST_REDIS`.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

#[cfg(test)]
mod postgres;
#[cfg(test)]
mod redis;
#[cfg(test)]
mod server;
#[cfg(test)]
#[path = "../postgres/support.rs"]
#[allow(dead_code, reason = "another test's, of which this needs a part")]
mod support;
