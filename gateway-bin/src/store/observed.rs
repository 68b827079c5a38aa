use std::sync::Arc;
use std::time::SystemTime;

use super::StoreError;
use super::database::Store;
use super::statement::Statement;

/// How far the messages of an instance were recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Seen {
    /// What came before is nobody's business: the instance was not metered by its messages yet.
    pub since: SystemTime,
    /// Until then they are in some ledger.
    pub until: SystemTime,
}

// === impl Store ===

impl Store {
    /// How far the messages of an instance were recorded; asked for the first time, that is from now on.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn seen(&self, instance: &str) -> Result<Seen, StoreError> {
        // What is there already is not changed, but answered.
        let seen = Statement::new(
            "INSERT INTO observed_instances (instance, since, seen_until) VALUES ($1, now_ms(), now_ms())
             ON CONFLICT (instance) DO UPDATE SET since = observed_instances.since RETURNING since, seen_until",
        );
        let seen = self.query_one(seen.with(instance), |row| {
            Ok(Seen {
                since: row.time(0)?,
                until: row.time(1)?,
            })
        });
        seen.await?.ok_or(StoreError::Unreadable)
    }

    /// Notes that the messages of an instance are recorded until then; what is noted already stays.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_seen(&self, instance: &str, until: SystemTime) -> Result<(), StoreError> {
        let put = Statement::new(
            "UPDATE observed_instances SET seen_until = $2 WHERE instance = $1 AND seen_until < $2",
        );
        self.run(put.with(instance).with(until)).await
    }

    /// Who has that slot of an instance.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_owner(
        &self,
        instance: &str,
        slot: u32,
    ) -> Result<Option<Arc<str>>, StoreError> {
        let find =
            Statement::new("SELECT user_id FROM assignments WHERE instance = $1 AND slot = $2");
        self.query_one(find.with(instance).with(slot), |row| row.text(0))
            .await
    }

    /// Everybody who has a slot of an instance, with its number.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn owners(&self, instance: &str) -> Result<Vec<(u32, Arc<str>)>, StoreError> {
        let all = Statement::new(
            "SELECT slot, user_id FROM assignments WHERE instance = $1 ORDER BY slot",
        );
        self.query(all.with(instance), |row| Ok((row.small(0)?, row.text(1)?)))
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{assign, on_each_store, person};

    #[tokio::test]
    async fn what_was_seen_only_grows() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let first = store.seen("one").await.unwrap();
            assert_eq!(first.since, first.until);
            let later = first.until + Duration::from_secs(60);
            store.put_seen("one", later).await.unwrap();
            store.put_seen("one", first.until).await.unwrap();
            store.put_seen("two", later).await.unwrap();
            let seen = store.seen("one").await.unwrap();
            assert_eq!((seen.since, seen.until), (first.since, later));
            assert!(store.seen("two").await.unwrap().until < later);
        })
        .await;
    }

    #[tokio::test]
    async fn a_slot_has_its_owner_on_its_instance() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            store.put_user(&person("alice")).await.unwrap();
            let alice = "alice".into();
            let slot = assign(&store, &alice, "one").await;
            let owner = async |instance, slot| store.find_owner(instance, slot).await.unwrap();
            assert_eq!(owner("one", slot).await.as_deref(), Some("alice"));
            assert_eq!(owner("two", slot).await, None);
            assert_eq!(owner("one", slot + 1).await, None);
            assert_eq!(store.owners("one").await.unwrap(), [(slot, "alice".into())]);
        })
        .await;
    }
}
