use std::sync::Arc;
use std::time::SystemTime;

use super::StoreError;
use super::database::Store;
use super::row::Row;
use super::statement::Statement;

/// Somebody's own key at a provider, as the store has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProviderKeyRow {
    /// Whose it is.
    pub user_id: Arc<str>,
    /// At which provider.
    pub provider: Arc<str>,
    /// The key, sealed; empty if it was taken away.
    pub sealed: Vec<u8>,
}

// === impl Store ===

impl Store {
    /// Everybody's own keys.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn provider_keys(&self) -> Result<Vec<ProviderKeyRow>, StoreError> {
        let list = "SELECT user_id, provider, sealed FROM provider_keys WHERE length(sealed) > 0";
        self.query(Statement::new(list), key).await
    }

    /// The keys that were put or taken away since then, by the store's [`time`](Self::time).
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn provider_keys_since(
        &self,
        since: SystemTime,
    ) -> Result<Vec<ProviderKeyRow>, StoreError> {
        let list = "SELECT user_id, provider, sealed FROM provider_keys WHERE updated_at >= $1";
        self.query(Statement::new(list).with(since), key).await
    }

    /// Keeps somebody's own key at a provider, in place of the one before.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_provider_key(
        &self,
        user_id: &str,
        provider: &str,
        sealed: &[u8],
    ) -> Result<(), StoreError> {
        let put = Statement::new(
            "INSERT INTO provider_keys (user_id, provider, sealed, updated_at) VALUES ($1, $2, $3, now_ms())
             ON CONFLICT (user_id, provider) DO UPDATE SET sealed = excluded.sealed,
                 updated_at = excluded.updated_at",
        );
        self.run(put.with(user_id).with(provider).with(sealed))
            .await
    }

    /// Takes somebody's own key away; whether there was one.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn delete_provider_key(
        &self,
        user_id: &str,
        provider: &str,
    ) -> Result<bool, StoreError> {
        // What is left says to other gateways that it is gone.
        let delete = Statement::new(
            "UPDATE provider_keys SET sealed = $3, updated_at = now_ms()
             WHERE user_id = $1 AND provider = $2 AND length(sealed) > 0 RETURNING 1",
        );
        self.does(delete.with(user_id).with(provider).with(&[][..]))
            .await
    }

    /// Keeps the same key sealed anew, if nobody has changed it since it was read; whether that was so.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn reseal_provider_key(
        &self,
        row: &ProviderKeyRow,
        sealed: &[u8],
    ) -> Result<bool, StoreError> {
        let reseal = Statement::new(
            "UPDATE provider_keys SET sealed = $4, updated_at = now_ms()
             WHERE user_id = $1 AND provider = $2 AND sealed = $3 RETURNING 1",
        );
        let reseal = reseal.with(&row.user_id).with(&row.provider);
        self.does(reseal.with(&*row.sealed).with(sealed)).await
    }
}

fn key(row: &Row<'_>) -> Result<ProviderKeyRow, StoreError> {
    Ok(ProviderKeyRow {
        user_id: row.text(0)?,
        provider: row.text(1)?,
        sealed: row.get(2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::on_each_store;

    #[tokio::test]
    async fn a_key_is_put_changed_and_taken_away_and_others_hear_of_it() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let since = store.time().await.unwrap();
            store
                .put_provider_key("alice", "openai", b"1")
                .await
                .unwrap();
            store
                .put_provider_key("alice", "openai", b"2")
                .await
                .unwrap();
            store.put_provider_key("bob", "openai", b"3").await.unwrap();
            let mut all = store.provider_keys().await.unwrap();
            all.sort_by(|a, b| a.user_id.cmp(&b.user_id));
            let sealed: Vec<_> = all.iter().map(|row| &*row.sealed).collect();
            assert_eq!(sealed, [&b"2"[..], b"3"]);

            assert!(store.reseal_provider_key(&all[0], b"4").await.unwrap());
            assert!(!store.reseal_provider_key(&all[0], b"5").await.unwrap());
            assert!(store.delete_provider_key("alice", "openai").await.unwrap());
            assert!(!store.delete_provider_key("alice", "openai").await.unwrap());
            assert!(!store.delete_provider_key("bob", "other").await.unwrap());
            assert_eq!(store.provider_keys().await.unwrap().len(), 1);
            let changed = store.provider_keys_since(since).await.unwrap();
            let gone: Vec<_> = changed.iter().filter(|row| row.sealed.is_empty()).collect();
            assert_eq!((changed.len(), gone.len()), (2, 1));
        })
        .await;
    }
}
