//! A real Redis as a process of the test, in memory only.

mod server;

pub use server::Redis;
