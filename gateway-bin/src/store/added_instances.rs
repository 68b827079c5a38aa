use std::sync::Arc;

use super::database::Store;
use super::row::Row;
use super::statement::Statement;
use super::{Note, StoreError};

/// An instance that an administrator has added, as the store has it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct AddedInstanceRow {
    /// Its name.
    pub name: Arc<str>,
    /// What was said of it, sealed.
    pub sealed: Vec<u8>,
}

// === impl Store ===

impl Store {
    /// The instances that administrators have added, by name.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn added_instances(&self) -> Result<Vec<AddedInstanceRow>, StoreError> {
        let list = Statement::new("SELECT name, sealed FROM added_instances ORDER BY name");
        let row = |row: &Row<'_>| {
            Ok(AddedInstanceRow {
                name: row.text(0)?,
                sealed: row.get(1)?,
            })
        };
        self.query(list, row).await
    }

    /// Keeps an instance that was added, which is an administrative act; `false`, and nothing is noted: there is one of that
    /// name.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn add_instance(
        &self,
        name: &str,
        sealed: &[u8],
        note: Note,
    ) -> Result<bool, StoreError> {
        let add = Statement::new(
            "INSERT INTO added_instances (name, sealed, created_at) VALUES ($1, $2, now_ms())
             ON CONFLICT (name) DO NOTHING RETURNING 1",
        );
        self.change(name, add.with(name).with(sealed), None, note)
            .await
    }

    /// Forgets an instance that was added, if nobody has a place there, or `even_if` somebody has, which is an administrative
    /// act; whether it was there and is not any more, else nothing is noted.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn remove_instance(
        &self,
        name: &str,
        even_if: bool,
        note: Note,
    ) -> Result<bool, StoreError> {
        let remove = Statement::new(
            "DELETE FROM added_instances WHERE name = $1
                 AND ($2 OR NOT EXISTS (SELECT 1 FROM assignments WHERE instance = $1)) RETURNING 1",
        );
        self.change(name, remove.with(name).with(even_if), None, note)
            .await
    }

    /// Keeps the same instance sealed anew, if it is still what was read; whether that was so.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn reseal_instance(
        &self,
        row: &AddedInstanceRow,
        sealed: &[u8],
    ) -> Result<bool, StoreError> {
        let reseal = Statement::new(
            "UPDATE added_instances SET sealed = $3 WHERE name = $1 AND sealed = $2 RETURNING 1",
        );
        let reseal = reseal.with(&row.name).with(&*row.sealed);
        self.does(reseal.with(sealed)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assign, note, on_each_store, person};

    #[tokio::test]
    async fn an_instance_is_added_once_and_stays_while_somebody_has_a_place_there() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            assert!(store.add_instance("two", b"2", note("1")).await.unwrap());
            assert!(store.add_instance("one", b"1", note("2")).await.unwrap());
            assert!(!store.add_instance("one", b"x", note("3")).await.unwrap());
            let rows = store.added_instances().await.unwrap();
            let names: Vec<_> = rows.iter().map(|row| (&*row.name, &*row.sealed)).collect();
            assert_eq!(names, [("one", &b"1"[..]), ("two", b"2")]);
            assert!(store.reseal_instance(&rows[0], b"anew").await.unwrap());
            assert!(!store.reseal_instance(&rows[0], b"late").await.unwrap());
            assert_eq!(store.added_instances().await.unwrap()[0].sealed, b"anew");

            store.put_user(&person("alice")).await.unwrap();
            assign(&store, &"alice".into(), "one").await;
            let remove = async |name, even_if| {
                let note = note(&format!("{name} {even_if}"));
                store.remove_instance(name, even_if, note).await.unwrap()
            };
            assert!(!remove("one", false).await && !remove("three", true).await);
            assert!(remove("two", false).await && remove("one", true).await);
            assert!(store.added_instances().await.unwrap().is_empty());
        })
        .await;
    }
}
