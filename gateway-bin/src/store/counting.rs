use super::StoreError;
use super::database::Store;
use super::statement::Statement;

// === impl Store ===

impl Store {
    /// The ledgers that are counted together in shared counters, as far as is known here.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn counting(&self) -> Result<Vec<String>, StoreError> {
        let all = Statement::new("SELECT ledger FROM quota_counting ORDER BY ledger");
        self.query(all, |row| row.get(0)).await
    }

    /// Remembers such ledgers.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_counting(&self, ledgers: &[String]) -> Result<(), StoreError> {
        for ledger in ledgers {
            let put = Statement::new(
                "INSERT INTO quota_counting (ledger, created_at) VALUES ($1, now_ms()) ON CONFLICT (ledger) DO NOTHING",
            );
            self.run(put.with(&**ledger)).await?;
        }
        Ok(())
    }

    /// Forgets one that is gone.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn forget_counting(&self, ledger: String) -> Result<(), StoreError> {
        let forget = Statement::new("DELETE FROM quota_counting WHERE ledger = $1");
        self.run(forget.with(ledger)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::on_each_store;

    #[tokio::test]
    async fn ledgers_are_remembered_once_and_forgotten() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let two = ["a", "b"].map(str::to_owned);
            store.put_counting(&two).await.unwrap();
            store.put_counting(&two).await.unwrap();
            assert_eq!(store.counting().await.unwrap(), two);
            store.forget_counting("a".to_owned()).await.unwrap();
            assert_eq!(store.counting().await.unwrap(), ["b"]);
        })
        .await;
    }
}
