//! Alerts: that somebody has used a part of a limit, once for each part and period.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower_quota::{Allowance, Denied, QuotaStore, Standing, Subject};
use tracing::{info, warn};

use crate::clock;
use crate::config::Plan;
use crate::plan;
use crate::store::{Alert, AlertState, Store};
use crate::webhook::{self, Target};

/// Where a plan does not say.
const DEFAULT: [u8; 3] = [80, 90, 100];

/// How many alerts are known to be kept, without asking the store; then all are asked about anew.
const KNOWN: usize = 100_000;

/// Looks at what people have used, and keeps an alert for each threshold that is crossed; clones share it.
#[derive(Clone, Debug)]
pub struct Alerts {
    inner: Arc<Inner>,
    /// Wakes who delivers; `None`: nothing is delivered.
    delivery: Option<Arc<Notify>>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    /// In percent, the least first; by plan.
    thresholds: BTreeMap<String, Vec<u8>>,
    /// So that somebody beyond a threshold costs a question once.
    known: Mutex<HashSet<Crossed>>,
}

/// What there is one alert of.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Crossed {
    subject: Arc<str>,
    limit: &'static str,
    threshold: u8,
    window_start: SystemTime,
}

// === impl Alerts ===

impl Alerts {
    /// Alerts in this store, at the thresholds of these plans.
    #[must_use]
    pub fn new(store: Store, plans: &BTreeMap<String, Plan>) -> Self {
        let thresholds = plans.iter().map(|(name, plan)| {
            let mut thresholds = plan.alert_at.clone();
            thresholds.sort_unstable();
            (name.clone(), thresholds)
        });
        let inner = Inner {
            store,
            thresholds: thresholds.filter(|(_, some)| !some.is_empty()).collect(),
            known: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            delivery: None,
        }
    }

    /// These alerts, each of which is from now on delivered to `target` too, if there is one, by a task of the current
    /// runtime that ends with `stop`.
    ///
    /// # Errors
    ///
    /// This host has no certificates to trust.
    pub fn deliver(mut self, target: Option<Target>, stop: CancellationToken) -> io::Result<Self> {
        if let Some(target) = target {
            self.delivery = Some(webhook::start(target, self.inner.store.clone(), stop)?);
        }
        Ok(self)
    }

    /// Looks at somebody whose use has just been counted. Whatever is crossed at once is kept in the order of the
    /// thresholds. A store that does not answer is asked with the next use.
    pub async fn look(&self, quota: &dyn QuotaStore, subject: &Subject) {
        let (Ok(standings), Ok(terms)) =
            (quota.standings(subject).await, quota.terms(subject).await)
        else {
            return;
        };
        let plan = terms.plan_name().map_or(plan::DEFAULT, |plan| plan);
        for standing in &standings {
            for threshold in self.crossed(plan, standing) {
                self.keep(subject, standing, threshold).await;
            }
        }
    }

    fn crossed(&self, plan: &str, standing: &Standing) -> Vec<u8> {
        let Allowance::AtMost(amount @ 1..) = standing.limit().allowance() else {
            return Vec::new();
        };
        let thresholds = self.inner.thresholds.get(plan);
        let thresholds = thresholds.or_else(|| self.inner.thresholds.get(plan::DEFAULT));
        let thresholds = thresholds.map_or(&DEFAULT[..], Vec::as_slice);
        let used = u128::from(standing.used()) * 100;
        let is_crossed = |threshold: &&u8| used >= u128::from(amount) * u128::from(**threshold);
        thresholds.iter().filter(is_crossed).copied().collect()
    }

    async fn keep(&self, subject: &Subject, standing: &Standing, threshold: u8) {
        let Allowance::AtMost(amount) = standing.limit().allowance() else {
            return;
        };
        let (limit, period) = (standing.limit(), standing.period());
        let name = Denied::new(limit.dimension(), limit.window(), period, 0, 0, 0).limit_name();
        let crossed = Crossed {
            subject: Arc::clone(subject.name()),
            limit: name,
            threshold,
            window_start: period.start(),
        };
        if self.known().contains(&crossed) {
            return;
        }
        let alert = Alert {
            id: uuid::Uuid::new_v4().to_string(),
            subject: subject.name().as_ref().to_owned(),
            alert_type: name.to_owned(),
            threshold,
            window_start: period.start(),
            used: standing.used(),
            amount,
            state: AlertState::Triggered,
            triggered_at: clock::now(),
            resolved: None,
            attempts: 0,
        };
        let deliver = self.delivery.is_some();
        match self.inner.store.put_alert(alert, deliver).await {
            Ok(is_new) => {
                let mut known = self.known();
                if known.len() >= KNOWN {
                    known.clear();
                }
                known.insert(crossed);
                drop(known);
                if is_new {
                    metrics::counter!("gateway_quota_alerts_total", "limit" => name).increment(1);
                    info!(
                        limit = name,
                        threshold, "somebody has used a part of a limit"
                    );
                    if let Some(delivery) = &self.delivery {
                        delivery.notify_one();
                    }
                }
            }
            Err(error) => warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "an alert was not kept"
            ),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<Crossed>> {
        self.inner
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tower_quota::{Amounts, Dimension, Limit, Limits, MemoryStore, Terms, Window};

    use super::*;
    use crate::store::{AuditFilter, testing};

    struct Fixture {
        _dir: tempfile::TempDir,
        store: Store,
        alerts: Alerts,
        quota: MemoryStore,
        now: Arc<Mutex<SystemTime>>,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("gateway.db")).unwrap();
        let limits = Limits::new([
            Limit::at_most(Dimension::Tokens, Window::Day, 100),
            Limit::at_most(Dimension::Calls, Window::Day, 0),
            Limit::unlimited(Dimension::Cost, Window::Month),
        ]);
        let now = Arc::new(Mutex::new(clock::now()));
        let clock = Arc::clone(&now);
        let quota =
            MemoryStore::new(limits.unwrap()).clock(Arc::new(move || *clock.lock().unwrap()));
        let alerts = Alerts::new(store.clone(), &BTreeMap::new());
        Fixture {
            _dir: dir,
            store,
            alerts,
            quota,
            now,
        }
    }

    impl Fixture {
        async fn uses(&self, tokens: u64) -> Vec<u8> {
            let alice = Subject::new("alice");
            let now = *self.now.lock().unwrap();
            let used = Amounts::new().tokens(tokens).nano_usd(1).calls(1);
            self.quota.add_used(&alice, now, used);
            self.alerts.look(&self.quota, &alice).await;
            let alerts = self.store.alerts(Some("alice".to_owned()), None).await;
            let thresholds = alerts.unwrap().into_iter().rev();
            thresholds.map(|alert| alert.threshold).collect()
        }
    }

    #[tokio::test]
    async fn d5_54_each_threshold_is_alerted_once_and_in_order_and_anew_the_next_day() {
        let fixture = fixture();
        assert_eq!(fixture.uses(79).await, [0; 0]);
        assert_eq!(fixture.uses(1).await, [80]);
        assert_eq!(fixture.uses(1).await, [80]);
        assert_eq!(
            fixture.uses(40).await,
            [80, 90, 100],
            "all that was jumped over"
        );
        // A gateway that has forgotten what it knows.
        fixture.alerts.known().clear();
        assert_eq!(fixture.uses(1).await, [80, 90, 100]);
        *fixture.now.lock().unwrap() += Duration::from_secs(86_400);
        assert_eq!(fixture.uses(120).await, [80, 90, 100, 80, 90, 100]);
    }

    #[tokio::test]
    async fn d5_54_a_limit_that_is_lowered_is_crossed_with_the_next_use() {
        let fixture = fixture();
        assert_eq!(fixture.uses(50).await, [0; 0]);
        let lower = Limits::new([Limit::at_most(Dimension::Tokens, Window::Day, 60)]);
        let set = fixture.quota.set_terms(
            &Subject::new("alice"),
            Terms::default().limits(lower.unwrap()),
        );
        assert!(set.await.unwrap());
        assert_eq!(fixture.uses(1).await, [80]);
    }

    #[tokio::test]
    async fn an_alert_is_acknowledged_and_resolved_once() {
        let fixture = fixture();
        fixture.uses(80).await;
        let all = fixture
            .store
            .alerts(None, Some(AlertState::Triggered))
            .await
            .unwrap();
        let id = all[0].id.clone();
        let moved = |to: AlertState, by: &str, note: &str| {
            let note = Some(note.to_owned());
            let (store, id, by) = (fixture.store.clone(), id.clone(), by.to_owned());
            async move {
                let act = testing::note(&format!("{by} {}", to.as_str()));
                let moved = store.move_alert(&id, to, by, note, act).await.unwrap();
                (moved, store.find_alert(&id).await.unwrap().unwrap())
            }
        };
        let (_, seen) = moved(AlertState::Acknowledged, "admin", "").await;
        assert_eq!(seen.state, AlertState::Acknowledged);
        let (_, done) = moved(AlertState::Resolved, "admin", "more was granted").await;
        let by = Some(("admin".to_owned(), Some("more was granted".to_owned())));
        assert_eq!(
            (done.state, done.resolved.clone()),
            (AlertState::Resolved, by)
        );
        let again = moved(AlertState::Resolved, "other", "again").await;
        assert_eq!(again, (false, done.clone()), "it was done with");
        let back = moved(AlertState::Acknowledged, "other", "").await;
        assert_eq!(back, (false, done));
        let act = testing::note("x");
        let nobody = fixture
            .store
            .move_alert("x", AlertState::Resolved, String::new(), None, act);
        assert!(!nobody.await.unwrap());
        let noted = fixture.store.audit(AuditFilter::default(), None, 9).await;
        let noted = noted.unwrap().into_iter().map(|row| row.note);
        let noted: Vec<_> = noted.map(|note| (note.before, note.after)).collect();
        let was = |state: &str, note: Option<&str>| Some(json!({ "state": state, "note": note }));
        let (triggered, seen) = (was("triggered", None), was("acknowledged", None));
        let done = was("resolved", Some("more was granted"));
        assert_eq!(noted, [(seen.clone(), done), (triggered, seen)]);
    }
}
