use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Amounts, Charge, Denied, Dimension, Granted, Limit, Limits, Plans, QuotaStore, Released,
    Renewed, ReserveError, Settled, Standing, Subject, Terms, Ticket, Window,
    laws::{MakeStore, TestClock},
};

/// 2026-03-15T12:00:00Z: far from the ends of the day, the month and the year.
pub(super) const NOON: u64 = 1_773_576_000_000;

/// A store under trial, and what a law does to it.
pub(super) struct Trial {
    law: &'static str,
    store: Arc<dyn QuotaStore>,
    clock: Arc<TestClock>,
}

// === impl Trial ===

#[expect(clippy::panic, reason = "a broken law is a failed test")]
impl Trial {
    /// A store for the law of this name, in which everybody has `limits`, at noon.
    pub(super) async fn new(
        law: &'static str,
        make: &impl MakeStore,
        limits: impl IntoIterator<Item = Limit>,
    ) -> Self {
        Self::with_plans(law, make, self::limits(limits).into()).await
    }

    /// As [`new`](Self::new), with more than one plan.
    pub(super) async fn with_plans(law: &'static str, make: &impl MakeStore, plans: Plans) -> Self {
        let clock = Arc::new(TestClock::new(unix_ms(NOON)));
        let store = make.make(plans, clock.clone()).await;
        Self { law, store, clock }
    }

    pub(super) fn store(&self) -> &Arc<dyn QuotaStore> {
        &self.store
    }

    pub(super) fn set_clock(&self, unix_ms: u64) {
        self.clock.set(self::unix_ms(unix_ms));
    }

    pub(super) fn advance(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    pub(super) async fn reserve(&self, charge: &Charge) -> Result<Granted, Denied> {
        match self.store.reserve(charge).await {
            Ok(granted) => Ok(granted),
            Err(ReserveError::Denied(denied)) => Err(denied),
            Err(error) => self.broken(&format!("{error}: {error:?}")),
        }
    }

    /// Reserves what has to be admitted.
    pub(super) async fn admit(&self, charge: &Charge) -> Granted {
        match self.reserve(charge).await {
            Ok(granted) => granted,
            Err(denied) => self.broken(&format!("{charge:?} was refused: {denied:?}")),
        }
    }

    /// Reserves what has to be refused.
    pub(super) async fn refuse(&self, charge: &Charge) -> Denied {
        match self.reserve(charge).await {
            Ok(granted) => self.broken(&format!("{charge:?} was admitted: {granted:?}")),
            Err(denied) => denied,
        }
    }

    pub(super) async fn settle(&self, ticket: &Ticket, used: Amounts) -> Settled {
        self.answer(self.store.settle(ticket, used).await)
    }

    pub(super) async fn release(&self, ticket: &Ticket) -> Released {
        self.answer(self.store.release(ticket).await)
    }

    pub(super) async fn renew(&self, ticket: &Ticket) -> Renewed {
        self.answer(self.store.renew(ticket).await)
    }

    pub(super) async fn terms(&self, subject: impl Into<Subject>) -> Terms {
        self.answer(self.store.terms(&subject.into()).await)
    }

    pub(super) async fn set_terms(&self, subject: impl Into<Subject>, terms: Terms) -> bool {
        self.answer(self.store.set_terms(&subject.into(), terms).await)
    }

    /// Changes the terms of a subject, which nobody else does.
    pub(super) async fn change(&self, subject: &str, change: impl FnOnce(Terms) -> Terms) {
        let changed = change(self.terms(subject).await);
        let set = self.set_terms(subject, changed).await;
        self.same("terms were set", &set, &true);
    }

    pub(super) async fn set_limits(&self, subject: &str, limits: Limits) {
        self.change(subject, |terms| terms.limits(limits)).await;
    }

    pub(super) async fn standings(&self, subject: impl Into<Subject>) -> Vec<Standing> {
        self.answer(self.store.standings(&subject.into()).await)
    }

    /// Compares what `subject` has used and what it holds under the limit of `dimension` in `window`.
    pub(super) async fn stands(
        &self,
        subject: impl Into<Subject>,
        (dimension, window): (Dimension, Window),
        (used, reserved): (u64, u64),
    ) {
        let standings = self.standings(subject).await;
        let standing = standings
            .iter()
            .find(|s| (s.limit().dimension(), s.limit().window()) == (dimension, window));
        let Some(standing) = standing else {
            self.broken(&format!("no standing of {dimension} per {window}"));
        };
        self.same(
            &format!("used and reserved {dimension} per {window}"),
            &(standing.used(), standing.reserved()),
            &(used, reserved),
        );
    }

    pub(super) fn same<T: Debug + PartialEq>(&self, what: &str, found: &T, lawful: &T) {
        if found != lawful {
            self.broken(&format!("{what}: {found:?}, not {lawful:?}"));
        }
    }

    fn answer<T, E: Debug>(&self, answer: Result<T, E>) -> T {
        answer.unwrap_or_else(|error| self.broken(&format!("{error:?}")))
    }

    fn broken(&self, how: &str) -> ! {
        panic!("law `{}` is broken: {how}", self.law)
    }
}

#[expect(clippy::expect_used, reason = "the laws list no limit twice")]
pub(super) fn limits(limits: impl IntoIterator<Item = Limit>) -> Limits {
    Limits::new(limits).expect("distinct limits")
}

pub(super) fn unix_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
