use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

/// Names for reservations: 32 bits say which database has them, 96 are chance, so that the client can name one before
/// the server knows of it and say the name again when it heard no answer.
pub(super) struct Ids {
    database: u32,
    next: AtomicU64,
    hasher: RandomState,
}

/// Where what is of the database begins.
const DATABASE: u32 = 96;

// === impl Ids ===

impl Ids {
    pub(super) fn new(database: u32) -> Self {
        Self {
            database,
            next: AtomicU64::new(0),
            // A seeded hasher is std's source of chance.
            hasher: RandomState::new(),
        }
    }

    pub(super) const fn database(&self) -> u32 {
        self.database
    }

    pub(super) fn next(&self) -> u128 {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = [0_u8, 1].map(|half| u128::from(self.hasher.hash_one((half, next))));
        u128::from(self.database) << DATABASE | (high << 64 | low) & ((1 << DATABASE) - 1)
    }

    /// Whether the reservation of this name is of this database, if there ever was one.
    pub(super) fn are_of(&self, id: u128) -> bool {
        id >> DATABASE == u128::from(self.database)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_differ_and_say_whose_they_are() {
        let [ids, same, other] = [7, 7, 8].map(Ids::new);
        let made: HashSet<_> = (0..1_000).flat_map(|_| [ids.next(), same.next()]).collect();

        assert_eq!(made.len(), 2_000);
        assert!(made.iter().all(|id| ids.are_of(*id) && !other.are_of(*id)));
    }
}
