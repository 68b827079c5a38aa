use std::sync::{Arc, PoisonError};

use rusqlite::{Row, params};
use tower_quota::{Allowance, Dimension, Limit, Window};

use super::database::{Store, StoreError, millis};
use crate::clock;

// === impl Store ===

impl Store {
    /// Everybody's limits of their own, by user.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn user_limits(&self) -> Result<Vec<(Arc<str>, Limit)>, StoreError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare(
            "SELECT subject, dimension, period, amount FROM user_quotas ORDER BY subject, rowid",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((Arc::from(row.get::<_, String>(0)?), own_limit(row)?))
        })?;
        rows.filter_map(|row| {
            row.map(|(user, limit)| limit.map(|limit| (user, limit)))
                .transpose()
        })
        .collect::<Result<_, _>>()
        .map_err(StoreError::from)
    }

    /// Sets limits of somebody's own, and answers all that they have; others of theirs stay.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_user_limits(
        &self,
        user_id: &Arc<str>,
        limits: Vec<Limit>,
    ) -> Result<Vec<Limit>, StoreError> {
        let user_id = Arc::clone(user_id);
        self.run(move |connection| {
            let now = millis(clock::now());
            let transaction = connection.transaction()?;
            for limit in &limits {
                let amount = match limit.allowance() {
                    Allowance::AtMost(amount) => Some(i64::try_from(amount).unwrap_or(i64::MAX)),
                    Allowance::Unlimited => None,
                };
                transaction.execute(
                    "INSERT INTO user_quotas (subject, dimension, period, amount, updated_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (subject, dimension, period)
                         DO UPDATE SET amount = excluded.amount, updated_at = excluded.updated_at",
                    params![
                        &*user_id,
                        limit.dimension().as_str(),
                        limit.window().as_str(),
                        amount,
                        now
                    ],
                )?;
            }
            let own = transaction
                .prepare("SELECT subject, dimension, period, amount FROM user_quotas WHERE subject = ?1 ORDER BY rowid")?
                .query_map([&*user_id], own_limit)?
                .filter_map(Result::transpose)
                .collect::<Result<_, _>>()?;
            transaction.commit()?;
            Ok(own)
        })
        .await
    }
}

/// A row of `user_quotas`; none if a newer version wrote it.
fn own_limit(row: &Row<'_>) -> rusqlite::Result<Option<Limit>> {
    let (dimension, window): (String, String) = (row.get(1)?, row.get(2)?);
    let allowance = match row.get::<_, Option<i64>>(3)? {
        None => Allowance::Unlimited,
        Some(amount) => Allowance::AtMost(u64::try_from(amount).unwrap_or(0)),
    };
    let dimension = Dimension::ALL
        .into_iter()
        .find(|known| known.as_str() == dimension);
    let window = Window::ALL
        .into_iter()
        .find(|known| known.as_str() == window);
    Ok(dimension
        .zip(window)
        .map(|(dimension, window)| Limit::new(dimension, window, allowance)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        (dir, store)
    }

    #[tokio::test]
    async fn limits_of_somebodys_own_come_back_as_they_were() {
        let (_dir, store) = open();
        let none = Limit::at_most(Dimension::Tokens, Window::Day, 0);
        let unlimited = Limit::unlimited(Dimension::Cost, Window::Month);
        store
            .put_user_limits(&"alice".into(), vec![none])
            .await
            .unwrap();
        let own = store
            .put_user_limits(&"alice".into(), vec![unlimited])
            .await
            .unwrap();
        assert_eq!(own, [none, unlimited], "setting one leaves the other");
        let raised = Limit::at_most(Dimension::Tokens, Window::Day, 7);
        let own = store
            .put_user_limits(&"alice".into(), vec![raised])
            .await
            .unwrap();
        assert_eq!(own, [raised, unlimited]);
        let kept: Vec<Limit> = store
            .user_limits()
            .unwrap()
            .into_iter()
            .map(|(_, limit)| limit)
            .collect();
        assert_eq!(kept, own);
    }
}
