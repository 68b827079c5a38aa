use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use rusqlite::TransactionBehavior;

use super::database::{Database, Store};
use super::row::Row;
use super::statement::Statement;
use super::{StoreError, postgres, sqlite};
use crate::instance::SlotsInUse;

/// Somebody who is to have a slot, and where.
struct Seeker {
    user_id: Arc<str>,
    instance: String,
    slots: u32,
    in_use: SlotsInUse,
}

/// What becomes of them.
enum Finding {
    /// They have one.
    Has(u32),
    /// They get one.
    Gets(u32),
    /// There is none left.
    Nothing,
}

// === impl Store ===

impl Store {
    /// The number of somebody's slot among the `slots` of an instance, counted from 1: the one they have, here or
    /// there, unless it is somebody else's, else the first free one; `None` if there is none left.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn assign_slot(
        &self,
        user_id: &Arc<str>,
        instance: &str,
        slots: u32,
        in_use: SlotsInUse,
    ) -> Result<Option<u32>, StoreError> {
        let seeker = Seeker {
            user_id: Arc::clone(user_id),
            instance: instance.to_owned(),
            slots,
            in_use,
        };
        match &self.0 {
            Database::Sqlite(file) => {
                let assigned = file.run(move |connection| {
                    let immediately = TransactionBehavior::Immediate;
                    let transaction = connection.transaction_with_behavior(immediately)?;
                    let assigned = sqlite::query(&transaction, &seeker.assigned(), slot)?;
                    let finding = seeker.find(&assigned.into_iter().collect());
                    if let Finding::Gets(slot) = finding {
                        sqlite::query(&transaction, &seeker.assign(slot), |_| Ok(()))?;
                    }
                    transaction.commit()?;
                    Ok(finding.slot())
                });
                assigned.await
            }
            Database::Postgres(server) => {
                let seeker = Arc::new(seeker);
                let assigned = server.run(move |client| {
                    let seeker = Arc::clone(&seeker);
                    async move {
                        let transaction = client.transaction().await?;
                        // Not the instance alone: a user may seek on two at once.
                        postgres::lock(&transaction, "assignments").await?;
                        let rows = postgres::query(&transaction, &seeker.assigned()).await?;
                        let assigned = rows.iter().map(|row| slot(&Row::Postgres(row)));
                        let finding = seeker.find(&assigned.collect::<Result<_, _>>()?);
                        if let Finding::Gets(slot) = finding {
                            postgres::query(&transaction, &seeker.assign(slot)).await?;
                        }
                        transaction.commit().await?;
                        Ok(finding.slot())
                    }
                    .boxed()
                });
                assigned.await
            }
        }
    }
}

fn slot(row: &Row<'_>) -> Result<(u32, String), StoreError> {
    Ok((row.small(0)?, row.get(1)?))
}

// === impl Seeker ===

impl Seeker {
    fn assigned(&self) -> Statement {
        Statement::new("SELECT slot, user_id FROM assignments WHERE instance = $1")
            .with(&*self.instance)
    }

    fn find(&self, assigned: &HashMap<u32, String>) -> Finding {
        let mut theirs = assigned.iter().filter(|(_, user)| **user == *self.user_id);
        let theirs = theirs.next().map(|(slot, _)| *slot);
        if let Some(theirs) = theirs.filter(|slot| !self.in_use.of_others.contains(slot)) {
            return Finding::Has(theirs);
        }
        let unassigned =
            |slot: &u32| !assigned.contains_key(slot) && !self.in_use.of_others.contains(slot);
        let is_free = |slot: &u32| unassigned(slot) && !self.in_use.with_agent.contains(slot);
        let there = self.in_use.own.filter(unassigned);
        let slot = there.or_else(|| (1..=self.slots).find(is_free));
        slot.map_or(Finding::Nothing, Finding::Gets)
    }

    fn assign(&self, slot: u32) -> Statement {
        Statement::new(
            "INSERT INTO assignments (user_id, instance, slot, created_at) VALUES ($1, $2, $3, now_ms())
             ON CONFLICT (user_id) DO UPDATE SET instance = excluded.instance, slot = excluded.slot,
                 created_at = excluded.created_at",
        )
        .with(&self.user_id)
        .with(&*self.instance)
        .with(slot)
    }
}

// === impl Finding ===

impl Finding {
    const fn slot(&self) -> Option<u32> {
        match self {
            Self::Has(slot) | Self::Gets(slot) => Some(*slot),
            Self::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{on_each_store, person};
    use super::*;

    async fn assign(store: &Store, user_id: &str, in_use: SlotsInUse) -> Option<u32> {
        store.put_user(&person(user_id)).await.unwrap();
        let slot = store.assign_slot(&user_id.into(), "one", 3, in_use).await;
        slot.unwrap()
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
            let dave = "dave".into();
            let elsewhere = store.assign_slot(&dave, "two", 2, SlotsInUse::default());
            assert_eq!(elsewhere.await.unwrap(), Some(1));
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
}
