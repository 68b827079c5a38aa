//! The laws that every store keeps, to run against a store of your own.
//!
//! Each law is a function that makes a store, uses it, and panics with its own name if the store breaks it. [`all`] runs
//! them one after the other.
//!
//! # Examples
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use std::sync::Arc;
//! use tower_quota::{MemoryStore, QuotaStore, laws};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! laws::all(&async |plans, clock| {
//!     Arc::new(MemoryStore::new(plans).lease(laws::LEASE).clock(clock)) as Arc<dyn QuotaStore>
//! })
//! .await;
//! # }
//! # main();
//! # }
//! ```

pub mod admission;
mod all;
mod clock;
pub mod lease;
mod make;
pub mod parent;
pub mod reset;
pub mod settlement;
pub mod subject;
pub mod terms;
mod trial;

pub use self::{
    all::all,
    clock::TestClock,
    make::{LEASE, MakeStore},
};
