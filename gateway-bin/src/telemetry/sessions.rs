use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use metrics::{Histogram, histogram};
use tokio::time::Instant;
use tower_sso::session::{End, Ended, Key, Kind, Lease, Record, Store, StoreFuture};

/// A store of sessions whose answers are timed, by what was asked.
pub struct TimedSessions<S>(S);

/// The time of one operation, looked up once.
fn seconds(operation: &'static str) -> Histogram {
    histogram!("gateway_store_seconds", "store" => "sessions", "operation" => operation)
}

macro_rules! timed {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl<S: Store> Store for TimedSessions<S> {
            $(fn $name(&self, $($argument: $type),*) -> StoreFuture<$answer> {
                let asked = Instant::now();
                self.0.$name($($argument),*).map(move |answer| {
                    seconds(stringify!($name)).record(asked.elapsed());
                    answer
                })
            })*
        }
    };
}

// === impl TimedSessions ===

impl<S> TimedSessions<S> {
    /// Times what `store` answers.
    #[must_use]
    pub const fn new(store: S) -> Self {
        Self(store)
    }
}

timed! {
    fn insert(record: Record) -> ();
    fn find(key: Key) -> Option<Record>;
    fn touch(key: Key, seen_at: SystemTime, expires_at: SystemTime) -> bool;
    fn replace(key: Key, version: u64, data: Bytes) -> bool;
    fn lease(key: Key, holder: u128, length: Duration) -> Lease;
    fn release(key: Key, holder: u128) -> ();
    fn list(user_id: &str, kind: Kind) -> Vec<Record>;
    fn end(what: End) -> u64;
    fn ended(within: Duration) -> Vec<Ended>;
    fn set_disabled(user_id: &str, disabled: bool) -> ();
    fn disabled() -> Vec<Arc<str>>;
    fn claim(what: Key, until: SystemTime) -> bool;
}

impl<S> fmt::Debug for TimedSessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedSessions").finish_non_exhaustive()
    }
}
