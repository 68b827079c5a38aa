//! The store in Redis.

mod answer;
mod ask;
mod builder;
mod decide;
mod epoch;
mod epochs;
mod link;
mod members;
mod names;
mod reseeding;
mod scripts;
mod store;

pub use self::{
    builder::RedisStoreBuilder, members::RedisMembers, reseeding::RedisReseeding, store::RedisStore,
};
