use std::time::Duration;

use super::StoreError;
use super::database::Store;
use super::statement::Statement;

// === impl Store ===

impl Store {
    /// Gives `holder` the lease of that name for so long, or longer if it has it; whether nobody else has it.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn lease(
        &self,
        name: &str,
        holder: &str,
        length: Duration,
    ) -> Result<bool, StoreError> {
        let take = Statement::new(
            "INSERT INTO leases (name, holder, ends_at) VALUES ($1, $2, now_ms() + $3)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at
             WHERE leases.holder = excluded.holder OR leases.ends_at <= now_ms() RETURNING 1",
        );
        self.does(take.with(name).with(holder).with(length)).await
    }

    /// Ends a lease that `holder` has.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn end_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let end = Statement::new("DELETE FROM leases WHERE name = $1 AND holder = $2");
        self.run(end.with(name).with(holder)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::on_each_store;
    use super::*;

    #[tokio::test]
    async fn one_has_a_lease_until_it_ends() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let minute = Duration::from_secs(60);
            let lease = async |holder, length| store.lease("x", holder, length).await.unwrap();
            assert!(lease("one", minute).await && lease("one", minute).await);
            assert!(!lease("two", minute).await);
            store.end_lease("x", "two").await.unwrap();
            assert!(!lease("two", minute).await, "it is not theirs to end");
            store.end_lease("x", "one").await.unwrap();
            assert!(lease("two", Duration::ZERO).await);
            assert!(lease("one", minute).await, "it was over at once");
        })
        .await;
    }
}
