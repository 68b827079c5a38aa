use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

use super::Person;
use crate::{DirectoryName, Workspace};

/// Lets visits of one user go one after the other.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<DirectoryName, Weak<Flight>>>);

/// Holds what the last run of a user made, as long as anybody waits for the next one.
type Flight = tokio::sync::Mutex<Option<Landed>>;

pub(super) struct Landed {
    pub(super) person: Person,
    pub(super) workspace: Arc<Workspace>,
}

// === impl Flights ===

impl Flights {
    /// Waits until no other run for `name` is under way.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: whoever stops waiting loses their place and nothing else.
    pub(super) async fn board(&self, name: &DirectoryName) -> OwnedMutexGuard<Option<Landed>> {
        self.find_or_insert(name).lock_owned().await
    }

    fn find_or_insert(&self, name: &DirectoryName) -> Arc<Flight> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(name).and_then(Weak::upgrade) {
            return flight;
        }
        if flights.len() == flights.capacity() {
            // Before the map would grow: so it stays as small as the number of users under way.
            flights.retain(|_, flight| flight.strong_count() > 0);
        }
        let flight = Arc::new(Flight::default());
        flights.insert(name.clone(), Arc::downgrade(&flight));
        flight
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn flights_that_ended_leave_nothing_behind() {
        let flights = Flights::default();
        for i in 0..10_000 {
            let name = DirectoryName::for_user(&format!("user-{i}")).unwrap();
            drop(flights.board(&name).await);
        }
        assert!(flights.0.lock().unwrap().len() < 100);
    }
}
