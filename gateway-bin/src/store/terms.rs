use std::collections::BTreeMap;
use std::sync::Arc;

use tower_quota::{Allowance, Dimension, Grant, Limit, Limits, Terms, TimeZone, Window};

use super::StoreError;
use super::database::Store;
use super::row::Row;
use super::statement::Statement;

/// What is read of the tables before it is put together.
#[derive(Default)]
struct Parts {
    limits: Vec<Limit>,
    grants: Vec<Grant>,
    plan: Option<String>,
    time_zone: Option<String>,
}

/// One of the rows that make somebody's terms.
enum Part {
    Limit(Limit),
    Grant(Grant),
    Plan(Option<String>, Option<String>),
    /// A newer version of the gateway wrote it.
    Unknown,
}

/// In one statement, so that it is of one moment.
const ALL: &str = "SELECT 'limit' AS kind, rowid AS number, subject, dimension, period, amount, CAST(NULL AS BIGINT)
         FROM user_quotas
     UNION ALL SELECT 'grant', rowid, subject, dimension, period, amount, expires_at
         FROM quota_grants WHERE expires_at > now_ms()
     UNION ALL SELECT 'plan', 0, subject, plan, time_zone, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT)
         FROM user_plans
     ORDER BY number";

// === impl Store ===

impl Store {
    /// What is special about everybody of whom something is, without a version. Grants that have expired are left out.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn all_terms(&self) -> Result<Vec<(Arc<str>, Terms)>, StoreError> {
        let rows = self.query(Statement::new(ALL), |row| Ok((row.text(2)?, part(row)?)));
        let mut all: BTreeMap<Arc<str>, Parts> = BTreeMap::new();
        for (subject, part) in rows.await? {
            all.entry(subject).or_default().add(part);
        }
        let all = all.into_iter();
        Ok(all
            .map(|(subject, parts)| (subject, parts.terms()))
            .collect())
    }

    /// Of whom something is special, in the order of their names: the first `limit` of those after `after`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn subjects_with_terms(
        &self,
        after: String,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, StoreError> {
        let subjects = Statement::new(
            "SELECT subject FROM user_quotas WHERE subject > $1
             UNION SELECT subject FROM quota_grants WHERE subject > $1 AND expires_at > now_ms()
             UNION SELECT subject FROM user_plans WHERE subject > $1
             ORDER BY subject LIMIT $2",
        );
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let subjects = subjects.with(after).with(limit);
        self.query(subjects, |row| row.text(0)).await
    }

    /// Keeps what is special about somebody, in the place of what was.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn put_terms(&self, subject: &Arc<str>, terms: &Terms) -> Result<(), StoreError> {
        self.apply(subject, put(subject, terms)).await
    }
}

fn put(subject: &Arc<str>, terms: &Terms) -> Vec<Statement> {
    let mut all = vec![
        Statement::new("DELETE FROM user_quotas WHERE subject = $1").with(subject),
        Statement::new("DELETE FROM quota_grants WHERE subject = $1").with(subject),
        Statement::new("DELETE FROM user_plans WHERE subject = $1").with(subject),
    ];
    for limit in terms.own_limits().iter() {
        let amount = match limit.allowance() {
            Allowance::AtMost(amount) => Some(amount),
            Allowance::Unlimited => None,
        };
        let own = Statement::new(
            "INSERT INTO user_quotas (subject, dimension, period, amount, updated_at)
             VALUES ($1, $2, $3, $4, now_ms())",
        );
        all.push(
            own.with(subject)
                .with(limit.dimension().as_str())
                .with(limit.window().as_str())
                .with(amount),
        );
    }
    for grant in terms.grants() {
        let granted = Statement::new(
            "INSERT INTO quota_grants (subject, dimension, period, amount, expires_at, created_at)
             VALUES ($1, $2, $3, $4, $5, now_ms())",
        );
        all.push(
            granted
                .with(subject)
                .with(grant.dimension().as_str())
                .with(grant.window().as_str())
                .with(grant.amount())
                .with(grant.expires_at()),
        );
    }
    let plan = terms.plan_name().map(|plan| &**plan);
    let zone = terms.zone().map(TimeZone::name);
    if plan.is_some() || zone.is_some() {
        let planned = Statement::new(
            "INSERT INTO user_plans (subject, plan, time_zone, updated_at) VALUES ($1, $2, $3, now_ms())",
        );
        all.push(planned.with(subject).with(plan).with(zone));
    }
    all
}

fn part(row: &Row<'_>) -> Result<Part, StoreError> {
    let kind: String = row.get(0)?;
    if kind == "plan" {
        return Ok(Part::Plan(row.get(3)?, row.get(4)?));
    }
    let (dimension, window): (String, String) = (row.get(3)?, row.get(4)?);
    let mut dimensions = Dimension::ALL.into_iter();
    let mut windows = Window::ALL.into_iter();
    let names = dimensions
        .find(|known| known.as_str() == dimension)
        .zip(windows.find(|known| known.as_str() == window));
    let Some((dimension, window)) = names else {
        return Ok(Part::Unknown);
    };
    if kind == "grant" {
        let (amount, expires_at) = (row.amount(5)?, row.time(6)?);
        return Ok(Part::Grant(Grant::new(
            dimension, window, amount, expires_at,
        )));
    }
    let allowance = match row.get::<Option<i64>>(5)? {
        None => Allowance::Unlimited,
        Some(amount) => Allowance::AtMost(u64::try_from(amount).unwrap_or(0)),
    };
    Ok(Part::Limit(Limit::new(dimension, window, allowance)))
}

// === impl Parts ===

impl Parts {
    fn add(&mut self, part: Part) {
        match part {
            Part::Limit(limit) => self.limits.push(limit),
            Part::Grant(grant) => self.grants.push(grant),
            Part::Plan(plan, time_zone) => (self.plan, self.time_zone) = (plan, time_zone),
            Part::Unknown => {}
        }
    }

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

    use super::super::testing::on_each_store;
    use super::*;
    use crate::clock;

    #[tokio::test]
    async fn subjects_with_terms_come_in_pages_and_once_each() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
            let limits = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 1)]).unwrap();
            let grant =
                |at| Terms::default().grant(Grant::new(Dimension::Calls, Window::Day, 5, at));
            let later = clock::now() + Duration::from_secs(60);
            for (subject, terms) in [
                ("dora", Terms::default().plan("pro")),
                ("bob", grant(later)),
                ("alice", grant(later).limits(limits).plan("pro")),
                ("carl", grant(std::time::UNIX_EPOCH)),
            ] {
                store.put_terms(&subject.into(), &terms).await.unwrap();
            }
            let page = async |after: &str, limit| {
                let page = store.subjects_with_terms(after.to_owned(), limit).await;
                page.unwrap().join(" ")
            };
            assert_eq!(page("", 2).await, "alice bob");
            assert_eq!(page("bob", 2).await, "dora", "carl's grant is over");
        })
        .await;
    }

    #[tokio::test]
    async fn terms_come_back_as_they_were() {
        on_each_store(|stores| async move {
            let store = stores.open().await;
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
        })
        .await;
    }
}
