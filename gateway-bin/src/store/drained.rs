use serde_json::json;

use super::database::Store;
use super::statement::Statement;
use super::{Note, StoreError};

// === impl Store ===

impl Store {
    /// The instances that nobody new is sent to.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn drained(&self) -> Result<Vec<String>, StoreError> {
        let drained = Statement::new("SELECT instance FROM drained_instances ORDER BY instance");
        self.query(drained, |row| row.get(0)).await
    }

    /// Notes that nobody new is sent to an instance, or that people are again.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn set_drained(&self, instance: &str, is_drained: bool) -> Result<(), StoreError> {
        let set = Statement::new(match is_drained {
            true => {
                "INSERT INTO drained_instances (instance, since) VALUES ($1, now_ms())
                 ON CONFLICT (instance) DO NOTHING"
            }
            false => "DELETE FROM drained_instances WHERE instance = $1",
        });
        self.run(set.with(instance)).await
    }

    /// The same as an administrative act; `false`, and nothing is noted: it is so already.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn note_drained(
        &self,
        instance: &str,
        is_drained: bool,
        note: Note,
    ) -> Result<bool, StoreError> {
        let set = Statement::new(match is_drained {
            true => {
                "INSERT INTO drained_instances (instance, since) VALUES ($1, now_ms())
                 ON CONFLICT (instance) DO NOTHING RETURNING 1"
            }
            false => "DELETE FROM drained_instances WHERE instance = $1 RETURNING 1",
        });
        let look =
            Statement::new("SELECT EXISTS (SELECT 1 FROM drained_instances WHERE instance = $1)");
        let look = look.with(instance);
        self.change(
            instance,
            set.with(instance),
            Some((look, |row| Ok(json!({ "drained": row.get::<bool>(0)? })))),
            note,
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::on_each_store;

    #[tokio::test]
    async fn an_instance_is_drained_until_it_is_not() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            for (instance, is_drained) in [("two", true), ("one", true), ("one", true)] {
                store.set_drained(instance, is_drained).await.unwrap();
            }
            assert_eq!(store.drained().await.unwrap(), ["one", "two"]);
            for _ in 0..2 {
                store.set_drained("one", false).await.unwrap();
            }
            assert_eq!(store.drained().await.unwrap(), ["two"]);
        })
        .await;
    }
}
