//! The counters of quotas: where they are kept, and that they say what the ledger says.

mod reprice;
mod seed;
mod settle;
mod store;

pub use self::reprice::{Corrected, reprice};
pub use self::seed::{SeedError, Seeding};
pub use self::settle::{Counters, UNRESERVED};
pub use self::store::CounterStore;
