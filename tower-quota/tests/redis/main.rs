//! The store in Redis keeps the laws, and stands what servers do.
//!
//! It needs a server, at the URL in `TOWER_QUOTA_TEST_REDIS`. Tests of servers that fail start their own.

mod cluster;
mod crowd;
mod faults;
mod laws;
mod model;
mod reseed;
mod support;
