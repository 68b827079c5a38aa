//! The store in Redis keeps the laws, and stands what servers do.
//!
//! It needs a server, at the URL in `TOWER_QUOTA_TEST_REDIS`. Tests of servers that fail start their own.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod model;
#[cfg(test)]
mod reseed;
#[cfg(test)]
mod support;
