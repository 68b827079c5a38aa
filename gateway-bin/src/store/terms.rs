use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Row, Transaction, params};
use tower_quota::{Allowance, Dimension, Grant, Limit, Limits, Terms, TimeZone, Window};

use super::database::{Store, StoreError, millis, time};
use crate::clock;

/// What is read of the tables before it is put together.
#[derive(Default)]
struct Parts {
    limits: Vec<Limit>,
    grants: Vec<Grant>,
    plan: Option<String>,
    time_zone: Option<String>,
}

// === impl Store ===

impl Store {
    /// What is special about everybody of whom something is, without a version. Grants that have expired are left out.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn all_terms(&self) -> Result<Vec<(Arc<str>, Terms)>, StoreError> {
        self.run(|connection| {
            let mut all: BTreeMap<Arc<str>, Parts> = BTreeMap::new();
            let mut limits = connection
                .prepare("SELECT subject, dimension, period, amount FROM user_quotas ORDER BY rowid")?;
            for row in limits.query_map([], |row| Ok((row.get(0)?, limit(row)?)))? {
                let (subject, limit) = row?;
                all.entry(subject).or_default().limits.extend(limit);
            }
            let mut grants = connection.prepare(
                "SELECT subject, dimension, period, amount, expires_at FROM quota_grants WHERE expires_at > ?1
                     ORDER BY rowid",
            )?;
            let now = millis(clock::now());
            for row in grants.query_map([now], |row| Ok((row.get(0)?, grant(row)?)))? {
                let (subject, grant) = row?;
                all.entry(subject).or_default().grants.extend(grant);
            }
            let mut plans = connection.prepare("SELECT subject, plan, time_zone FROM user_plans")?;
            for row in plans.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
                let (subject, plan, time_zone) = row?;
                let parts: &mut Parts = all.entry(subject).or_default();
                (parts.plan, parts.time_zone) = (plan, time_zone);
            }
            Ok(all
                .into_iter()
                .map(|(subject, parts)| (subject, parts.terms()))
                .collect())
        })
        .await
    }

    /// Keeps what is special about somebody, in the place of what was.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_terms(&self, subject: &Arc<str>, terms: &Terms) -> Result<(), StoreError> {
        let (subject, terms) = (Arc::clone(subject), terms.clone());
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            put(&transaction, &subject, &terms)?;
            Ok(transaction.commit()?)
        })
        .await
    }
}

fn put(transaction: &Transaction<'_>, subject: &str, terms: &Terms) -> rusqlite::Result<()> {
    let now = millis(clock::now());
    for table in ["user_quotas", "quota_grants", "user_plans"] {
        transaction.execute(
            &format!("DELETE FROM {table} WHERE subject = ?1"),
            [subject],
        )?;
    }
    for limit in terms.own_limits().iter() {
        let amount = match limit.allowance() {
            Allowance::AtMost(amount) => Some(amount_to_row(amount)),
            Allowance::Unlimited => None,
        };
        transaction.execute(
            "INSERT INTO user_quotas (subject, dimension, period, amount, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                subject,
                limit.dimension().as_str(),
                limit.window().as_str(),
                amount,
                now
            ],
        )?;
    }
    for grant in terms.grants() {
        transaction.execute(
            "INSERT INTO quota_grants (subject, dimension, period, amount, expires_at, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                subject,
                grant.dimension().as_str(),
                grant.window().as_str(),
                amount_to_row(grant.amount()),
                millis(grant.expires_at()),
                now
            ],
        )?;
    }
    let zone = terms.zone().map(TimeZone::name);
    if terms.plan_name().is_some() || zone.is_some() {
        transaction.execute(
            "INSERT INTO user_plans (subject, plan, time_zone, updated_at) VALUES (?1, ?2, ?3, ?4)",
            params![subject, terms.plan_name().map(|plan| &**plan), zone, now],
        )?;
    }
    Ok(())
}

/// Greater ones are refused before they come here.
fn amount_to_row(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// `None` if a newer version wrote it.
fn names(row: &Row<'_>) -> rusqlite::Result<Option<(Dimension, Window)>> {
    let (dimension, window): (String, String) = (row.get(1)?, row.get(2)?);
    let mut dimensions = Dimension::ALL.into_iter();
    let mut windows = Window::ALL.into_iter();
    Ok(dimensions
        .find(|known| known.as_str() == dimension)
        .zip(windows.find(|known| known.as_str() == window)))
}

fn limit(row: &Row<'_>) -> rusqlite::Result<Option<Limit>> {
    let allowance = match row.get::<_, Option<i64>>(3)? {
        None => Allowance::Unlimited,
        Some(amount) => Allowance::AtMost(u64::try_from(amount).unwrap_or(0)),
    };
    Ok(names(row)?.map(|(dimension, window)| Limit::new(dimension, window, allowance)))
}

fn grant(row: &Row<'_>) -> rusqlite::Result<Option<Grant>> {
    let amount = u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
    let expires_at = time(row.get(4)?);
    Ok(names(row)?.map(|(dimension, window)| Grant::new(dimension, window, amount, expires_at)))
}

// === impl Parts ===

impl Parts {
    fn terms(self) -> Terms {
        // A primary key tells limits apart.
        let limits = Limits::new(self.limits).unwrap_or_default();
        let mut terms = Terms::default().limits(limits);
        for grant in self.grants {
            terms = terms.grant(grant);
        }
        if let Some(plan) = self.plan {
            terms = terms.plan(plan);
        }
        match self.time_zone.map(|zone| TimeZone::named(&zone)) {
            Some(Ok(zone)) => terms.time_zone(zone),
            _ => terms,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn terms_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        let limits = Limits::new([
            Limit::at_most(Dimension::Tokens, Window::Minute, 0),
            Limit::unlimited(Dimension::Cost, Window::Month),
        ]);
        let later = clock::now() + Duration::from_secs(60);
        let grant = |at| Grant::new(Dimension::Calls, Window::Day, 5, at);
        let terms = Terms::default()
            .limits(limits.unwrap())
            .grant(grant(later))
            .plan("pro")
            .time_zone(TimeZone::named("Asia/Kolkata").unwrap());
        let alice: Arc<str> = "alice".into();
        let with_old = terms.clone().grant(grant(std::time::UNIX_EPOCH));
        store.put_terms(&alice, &with_old).await.unwrap();
        let all = store.all_terms().await.unwrap();
        assert_eq!(all, [(Arc::clone(&alice), terms)], "without what is over");
        store.put_terms(&alice, &Terms::default()).await.unwrap();
        assert!(store.all_terms().await.unwrap().is_empty());
    }
}
