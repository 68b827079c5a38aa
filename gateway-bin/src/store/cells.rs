use std::ops::RangeInclusive;
use std::sync::Arc;

use super::StoreError;
use super::database::Store;
use super::statement::Statement;

// === impl Store ===

impl Store {
    /// The operating-system user that somebody's cell runs as, if they have ever had one.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn find_os_user(&self, user_id: &Arc<str>) -> Result<Option<u32>, StoreError> {
        let find = Statement::new("SELECT os_user FROM cell_os_users WHERE user_id = $1");
        self.query_one(find.with(user_id), |row| row.small(0)).await
    }

    /// The operating-system user that somebody's cell runs as: the one that it always was, or the next one in `range` that
    /// nobody has had. `None`: there is none left.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn os_user(
        &self,
        user_id: &Arc<str>,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, StoreError> {
        let number = |number: i64| u32::try_from(number).map_err(|_| StoreError::Unreadable);
        let (first, last) = range.into_inner();
        loop {
            if let Some(found) = self.find_os_user(user_id).await? {
                return Ok(Some(found));
            }
            // Who is deleted keeps theirs: files may be left somewhere.
            let next = Statement::new(
                "SELECT max(os_user) FROM cell_os_users WHERE os_user BETWEEN $1 AND $2",
            );
            let greatest =
                self.query_one(next.with(first).with(last), |row| row.get::<Option<i64>>(0));
            let next = match greatest.await?.flatten() {
                Some(greatest) => number(greatest)?.saturating_add(1),
                None => first,
            };
            if next > last {
                return Ok(None);
            }
            let keep = Statement::new(
                "INSERT INTO cell_os_users (user_id, os_user, created_at) VALUES ($1, $2, now_ms())
                 ON CONFLICT DO NOTHING RETURNING 1",
            );
            if self.does(keep.with(user_id).with(next)).await? {
                return Ok(Some(next));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::future::join_all;

    use super::super::testing::on_each_store;
    use super::*;

    #[tokio::test]
    async fn nobody_gets_the_system_user_of_another() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let people: Vec<Arc<str>> = (0..20).map(|n| format!("user-{n}").into()).collect();
            let range = 700_000..=700_019;
            let ask = |user_id| store.os_user(user_id, range.clone());
            let first: Vec<_> = join_all(people.iter().map(ask)).await;
            let first: Vec<_> = first
                .into_iter()
                .map(|user| user.unwrap().unwrap())
                .collect();
            let distinct: BTreeSet<_> = first.iter().copied().collect();
            assert_eq!(distinct, range.clone().collect());
            let one_more = Arc::from("one more");
            assert_eq!(ask(&one_more).await.unwrap(), None);
            drop(store);
            let store = stores.open().await;
            let again = join_all(people.iter().map(|user_id| store.os_user(user_id, 1..=1)));
            let again: Vec<_> = again.await.into_iter().map(|user| user.unwrap()).collect();
            let kept: Vec<_> = first.into_iter().map(Some).collect();
            assert_eq!(again, kept, "whatever the range is now");
            let elsewhere = store.os_user(&one_more, 800_000..=800_000).await.unwrap();
            assert_eq!(elsewhere, Some(800_000));
        })
        .await;
    }
}
