//! The store in this process's memory.

mod account;
mod counters;
mod family;
mod shard;
mod store;

pub use self::store::MemoryStore;
