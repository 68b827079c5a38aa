use std::time::{Duration, SystemTime};

use super::StoreError;
use super::alerts::{Alert, alert, columns};
use super::database::Store;
use super::statement::Statement;

/// Claims alerts by the database's clock, on which all gateways agree. Of two gateways at once the second passes over
/// what the first is claiming (`lock`).
macro_rules! claim {
    ($lock:literal) => {
        concat!(
            "WITH due AS MATERIALIZED (
                 SELECT rowid AS number FROM quota_alerts WHERE deliver_at <= now_ms()
                 ORDER BY rowid LIMIT $1 ",
            $lock,
            ")
             UPDATE quota_alerts SET deliver_at = now_ms() + $2, delivery_attempts = delivery_attempts + 1
             WHERE rowid IN (SELECT number FROM due) RETURNING ",
            columns!(),
            ", rowid"
        )
    };
}

// === impl Store ===

impl Store {
    /// Claims alerts that are due to be delivered, those that were kept first before others, `limit` at most: nobody
    /// else is given them before the `lease` is over. Their attempts count this one.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, they may be claimed for nobody until the lease is over.
    pub async fn claim_deliveries(
        &self,
        limit: u32,
        lease: Duration,
    ) -> Result<Vec<Alert>, StoreError> {
        let claim = self.words(claim!(""), claim!("FOR UPDATE SKIP LOCKED"));
        let claim = Statement::new(claim).with(limit).with(lease);
        let claimed = self.query(claim, |row| Ok((row.get::<i64>(12)?, alert(row)?)));
        let mut claimed = claimed.await?;
        claimed.sort_unstable_by_key(|(number, _)| *number);
        Ok(claimed.into_iter().map(|(_, alert)| alert).collect())
    }

    /// Notes that an alert was delivered.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn delivered(&self, id: String) -> Result<(), StoreError> {
        let done = Statement::new("UPDATE quota_alerts SET deliver_at = NULL WHERE id = $1");
        self.run(done.with(id)).await
    }

    /// Has an alert delivered at that time, unless it is delivered already.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn delay_delivery(&self, id: String, at: SystemTime) -> Result<(), StoreError> {
        let delay = Statement::new(
            "UPDATE quota_alerts SET deliver_at = $2 WHERE id = $1 AND deliver_at IS NOT NULL",
        );
        self.run(delay.with(id).with(at)).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::AlertState;
    use super::super::testing::on_each_store;
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    async fn put(store: &Store, threshold: u8, deliver: bool) -> bool {
        let alert = Alert {
            id: format!("a{threshold}"),
            subject: "alice".to_owned(),
            alert_type: "daily_tokens".to_owned(),
            threshold,
            window_start: UNIX_EPOCH,
            used: 1,
            amount: 2,
            state: AlertState::Triggered,
            triggered_at: UNIX_EPOCH + Duration::from_secs(1),
            resolved: None,
            attempts: 0,
        };
        store.put_alert(alert, deliver).await.unwrap()
    }

    async fn claim(store: &Store, limit: u32) -> Vec<(u8, u32)> {
        let claimed = store.claim_deliveries(limit, LEASE).await.unwrap();
        let claimed = claimed.iter();
        claimed
            .map(|alert| (alert.threshold, alert.attempts))
            .collect()
    }

    #[tokio::test]
    async fn alerts_are_claimed_in_their_order_and_by_one_until_the_lease_is_over() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            for (threshold, deliver) in [(90, true), (70, false), (80, true), (100, true)] {
                assert!(put(&store, threshold, deliver).await);
                assert!(!put(&store, threshold, deliver).await, "there is one");
            }
            assert_eq!(claim(&store, 2).await, [(90, 1), (80, 1)]);
            assert_eq!(claim(&store, 9).await, [(100, 1)]);
            assert_eq!(claim(&store, 9).await, []);
            let listed = store.alerts(None, None).await.unwrap();
            let listed: Vec<_> = listed.iter().map(|alert| alert.threshold).collect();
            assert_eq!(listed, [100, 80, 70, 90], "the latest first");

            let now = store.time().await.unwrap();
            let over = store.delay_delivery("a80".to_owned(), now);
            over.await.unwrap();
            assert_eq!(claim(&store, 9).await, [(80, 2)]);
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_delivered_is_not_delivered_again() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            put(&store, 80, true).await;
            let claimed = store.claim_deliveries(1, Duration::ZERO).await.unwrap();
            assert_eq!(claimed.len(), 1);
            assert_eq!(claim(&store, 1).await, [(80, 2)], "its lease was over");
            store.delivered("a80".to_owned()).await.unwrap();
            let now = store.time().await.unwrap();
            let too_late = store.delay_delivery("a80".to_owned(), now);
            too_late.await.unwrap();
            assert_eq!(claim(&store, 1).await, []);
        })
        .await;
    }
}
