//! The store in this process's memory.

mod account;
mod counters;
mod shard;
mod store;

pub use self::store::MemoryStore;
