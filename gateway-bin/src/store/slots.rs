use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use rusqlite::TransactionBehavior;
use serde_json::json;

use super::database::{Database, Store, TRANSACTION, timed};
use super::row::Row;
use super::statement::Statement;
use super::{Note, StoreError, postgres, sqlite};
use crate::instance::SlotsInUse;

/// An instance that somebody may get a slot on.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "whoever names one must say everything"
)]
pub struct Candidate {
    /// Its name.
    pub instance: String,
    /// How many slots it has.
    pub slots: u32,
    /// Which of them are in use there, as it matters for the person.
    pub in_use: SlotsInUse,
}

/// What became of somebody who was to have a slot.
#[derive(Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Assigned {
    /// They have one, counted from 1.
    Slot {
        /// On that instance.
        instance: String,
        /// Its number.
        slot: u32,
    },
    /// Somebody else has found them one meanwhile, on that instance.
    Elsewhere(String),
    /// There is none left.
    Full,
}

/// Somebody who is to have a slot.
struct Seeker {
    user_id: Arc<str>,
    stored: Option<String>,
    candidates: Vec<Candidate>,
}

/// Who has which slot, by instance.
type Taken = HashMap<String, HashMap<u32, String>>;

// === impl Store ===

impl Store {
    /// The instance that somebody has a slot on.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_assignment(&self, user_id: &Arc<str>) -> Result<Option<String>, StoreError> {
        let find = Statement::new("SELECT instance FROM assignments WHERE user_id = $1");
        self.query_one(find.with(user_id), |row| row.get(0)).await
    }

    /// Takes somebody's slot on that instance away from them, as an administrative act; `false`, and nothing is noted: they
    /// have none there. What the instance has of them stays.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn delete_assignment(
        &self,
        user_id: &Arc<str>,
        instance: &str,
        note: Note,
    ) -> Result<bool, StoreError> {
        let delete = Statement::new(
            "DELETE FROM assignments WHERE user_id = $1 AND instance = $2 RETURNING 1",
        );
        let delete = delete.with(user_id).with(instance);
        let look = Statement::new("SELECT instance, slot FROM assignments WHERE user_id = $1");
        let read = |row: &Row<'_>| {
            let (instance, slot): (String, i64) = (row.get(0)?, row.get(1)?);
            Ok(json!({ "instance": instance, "slot": slot }))
        };
        self.change(user_id, delete, Some((look.with(user_id), read)), note)
            .await
    }

    /// How many people have a slot on each instance.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn assigned(&self) -> Result<HashMap<String, u32>, StoreError> {
        let count = Statement::new("SELECT instance, COUNT(*) FROM assignments GROUP BY instance");
        let counted = self.query(count, |row| Ok((row.get(0)?, row.small(1)?)));
        Ok(counted.await?.into_iter().collect())
    }

    /// Finds somebody whom the store has on the instance `stored`, or on none, a slot on one of these: the one they have
    /// there, here or on the instance itself, unless it is somebody else's, else the first free one of the instance that is
    /// least taken.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn assign_slot(
        &self,
        user_id: &Arc<str>,
        stored: Option<&str>,
        candidates: Vec<Candidate>,
    ) -> Result<Assigned, StoreError> {
        let seeker = Seeker {
            user_id: Arc::clone(user_id),
            stored: stored.map(str::to_owned),
            candidates,
        };
        timed(TRANSACTION, async {
            match &self.0 {
                Database::Sqlite(file) => {
                    let assigned = file.run(move |connection| {
                        let immediately = TransactionBehavior::Immediate;
                        let transaction = connection.transaction_with_behavior(immediately)?;
                        let rows = sqlite::query(&transaction, &assignments(), assignment)?;
                        let (assigned, write) = seeker.find(rows);
                        if let Some(write) = write {
                            sqlite::query(&transaction, &write, |_| Ok(()))?;
                        }
                        transaction.commit()?;
                        Ok(assigned)
                    });
                    assigned.await
                }
                Database::Postgres(server) => {
                    let seeker = Arc::new(seeker);
                    let assigned = server.run(move |client| {
                        let seeker = Arc::clone(&seeker);
                        async move {
                            let transaction = client.transaction().await?;
                            postgres::lock(&transaction, "assignments").await?;
                            let rows = postgres::query(&transaction, &assignments()).await?;
                            let rows = rows.iter().map(|row| assignment(&Row::Postgres(row)));
                            let (assigned, write) = seeker.find(rows.collect::<Result<_, _>>()?);
                            if let Some(write) = write {
                                postgres::query(&transaction, &write).await?;
                            }
                            transaction.commit().await?;
                            Ok(assigned)
                        }
                        .boxed()
                    });
                    assigned.await
                }
            }
        })
        .await
    }
}

fn assignments() -> Statement {
    // What is nobody's any more is nobody's again.
    Statement::new(
        "SELECT instance, slot, user_id FROM assignments
         UNION ALL SELECT instance, slot, '' FROM retired_slots",
    )
}

fn assignment(row: &Row<'_>) -> Result<(String, u32, String), StoreError> {
    Ok((row.get(0)?, row.small(1)?, row.get(2)?))
}

// === impl Candidate ===

impl Candidate {
    /// The slot that is to be theirs.
    fn slot(&self, taken: &HashMap<u32, String>, user_id: &str) -> Option<u32> {
        let mut theirs = taken.iter().filter(|(_, user)| **user == *user_id);
        let theirs = theirs.next().map(|(slot, _)| *slot);
        if let Some(theirs) = theirs.filter(|slot| !self.in_use.of_others.contains(slot)) {
            return Some(theirs);
        }
        let unassigned =
            |slot: &u32| !taken.contains_key(slot) && !self.in_use.of_others.contains(slot);
        let is_free = |slot: &u32| unassigned(slot) && !self.in_use.with_agent.contains(slot);
        let there = self.in_use.own.filter(unassigned);
        there.or_else(|| (1..=self.slots).find(is_free))
    }
}

// === impl Seeker ===

impl Seeker {
    /// What becomes of them, and how it is written, if it is new.
    fn find(&self, assignments: Vec<(String, u32, String)>) -> (Assigned, Option<Statement>) {
        let (mut taken, mut theirs) = (Taken::new(), None);
        for (instance, slot, user) in assignments {
            if *user == *self.user_id {
                theirs = Some((instance.clone(), slot));
            }
            taken.entry(instance).or_default().insert(slot, user);
        }
        let (theirs, their_slot) = theirs.unzip();
        // Somebody else was faster.
        let found = theirs
            .as_ref()
            .filter(|theirs| self.stored.as_ref() != Some(*theirs));
        let mut candidates = self.candidates.iter();
        if let Some(found) = found
            && !candidates.any(|candidate| candidate.instance == **found)
        {
            return (Assigned::Elsewhere(found.clone()), None);
        }
        let nobody = HashMap::new();
        let candidates = self.candidates.iter();
        let candidates =
            candidates.filter(|candidate| found.is_none_or(|found| candidate.instance == *found));
        let free = candidates.filter_map(|candidate| {
            let taken = taken.get(&candidate.instance).unwrap_or(&nobody);
            let slot = candidate.slot(taken, &self.user_id)?;
            Some((taken.len(), candidate, slot))
        });
        let least = free.min_by(|(a, of_a, _), (b, of_b, _)| {
            // By how full they are, without a division: a/A < b/B if aB < bA.
            let full = |taken: usize, of: &Candidate| {
                u64::try_from(taken)
                    .unwrap_or(u64::MAX)
                    .saturating_mul(of.slots.into())
            };
            full(*a, of_b).cmp(&full(*b, of_a))
        });
        let Some((_, Candidate { instance, .. }, slot)) = least else {
            return (Assigned::Full, None);
        };
        let is_new = (theirs.as_ref(), their_slot) != (Some(instance), Some(slot));
        let write = is_new.then(|| self.assign(instance, slot));
        let instance = instance.clone();
        (Assigned::Slot { instance, slot }, write)
    }

    fn assign(&self, instance: &str, slot: u32) -> Statement {
        Statement::new(
            "INSERT INTO assignments (user_id, instance, slot, created_at) VALUES ($1, $2, $3, now_ms())
             ON CONFLICT (user_id) DO UPDATE SET instance = excluded.instance, slot = excluded.slot,
                 created_at = excluded.created_at",
        )
        .with(&self.user_id)
        .with(instance)
        .with(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{note, on_each_store, person};
    use super::*;

    fn candidate(instance: &str, slots: u32, in_use: SlotsInUse) -> Candidate {
        Candidate {
            instance: instance.to_owned(),
            slots,
            in_use,
        }
    }

    fn on(instance: &str, slot: u32) -> Assigned {
        Assigned::Slot {
            instance: instance.to_owned(),
            slot,
        }
    }

    /// Seeks a slot on the instance `one`, which has three.
    async fn assign(store: &Store, user_id: &str, in_use: SlotsInUse) -> Option<u32> {
        store.put_user(&person(user_id)).await.unwrap();
        let user_id = user_id.into();
        let stored = store.find_assignment(&user_id).await.unwrap();
        let candidates = vec![candidate("one", 3, in_use)];
        let assigned = store.assign_slot(&user_id, stored.as_deref(), candidates);
        match assigned.await.unwrap() {
            Assigned::Slot { slot, .. } => Some(slot),
            Assigned::Full => None,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn everybody_has_a_slot_of_their_own_and_keeps_it() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let mut slots = Vec::new();
            for user_id in ["alice", "bob", "alice", "carol", "dave", "bob"] {
                slots.push(assign(&store, user_id, SlotsInUse::default()).await);
            }
            assert_eq!(slots, [Some(1), Some(2), Some(1), Some(3), None, Some(2)]);
        })
        .await;
    }

    fn in_use(own: Option<u32>, of_others: &[u32], with_agent: &[u32]) -> SlotsInUse {
        SlotsInUse {
            own,
            of_others: of_others.iter().copied().collect(),
            with_agent: with_agent.iter().copied().collect(),
        }
    }

    #[tokio::test]
    async fn nobody_gets_a_slot_that_the_instance_knows_as_somebody_elses() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let alice = assign(&store, "alice", in_use(None, &[1], &[1, 2]));
            assert_eq!(alice.await, Some(3));
            let bob = assign(&store, "bob", in_use(Some(2), &[], &[1, 2, 3]));
            assert_eq!(bob.await, Some(2), "theirs there");
            let carol = assign(&store, "carol", in_use(Some(2), &[], &[]));
            assert_eq!(carol.await, Some(1), "bob's here");
            let alice = assign(&store, "alice", in_use(None, &[1, 3], &[]));
            assert_eq!(alice.await, None, "lost to another");
        })
        .await;
    }

    #[tokio::test]
    async fn whoever_is_new_gets_a_slot_where_most_are_free() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let mut places = Vec::new();
            for n in 0..7 {
                let user_id: Arc<str> = format!("user-{n}").into();
                store.put_user(&person(&user_id)).await.unwrap();
                let both = vec![
                    candidate("small", 2, SlotsInUse::default()),
                    candidate("large", 4, SlotsInUse::default()),
                ];
                places.push(store.assign_slot(&user_id, None, both).await.unwrap());
            }
            let expected = [
                on("small", 1),
                on("large", 1),
                on("large", 2),
                on("small", 2),
                on("large", 3),
                on("large", 4),
                Assigned::Full,
            ];
            assert_eq!(places, expected);
            let assigned = store.assigned().await.unwrap();
            assert_eq!((assigned["small"], assigned["large"]), (2, 4));
        })
        .await;
    }

    #[tokio::test]
    async fn a_place_is_moved_or_taken_away_only_from_where_it_was_seen() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let alice: Arc<str> = "alice".into();
            assert_eq!(
                assign(&store, "alice", SlotsInUse::default()).await,
                Some(1)
            );
            let two = || vec![candidate("two", 2, SlotsInUse::default())];
            for stored in [None, Some("two")] {
                let assigned = store.assign_slot(&alice, stored, two()).await.unwrap();
                assert_eq!(assigned, Assigned::Elsewhere("one".to_owned()));
            }
            let moved = store.assign_slot(&alice, Some("one"), two()).await.unwrap();
            assert_eq!(moved, on("two", 1));
            assert!(
                !store
                    .delete_assignment(&alice, "one", note("1"))
                    .await
                    .unwrap()
            );
            assert!(
                store
                    .delete_assignment(&alice, "two", note("1"))
                    .await
                    .unwrap()
            );
            assert_eq!(store.find_assignment(&alice).await.unwrap(), None);
        })
        .await;
    }
}
