//! Everybody's records, wherever they are read.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::task::spawn_blocking;
use tower_usage::sqlite::{Group, GroupBy, GroupTotal, LedgerError, SqliteLedger, Sum};
use tower_usage::{RecordId, UsageRecord};

/// The records of this gateway's ledger; clones read the same.
#[derive(Clone)]
pub struct Records {
    ledger: Arc<SqliteLedger>,
}

/// Whose records: of one user, or everybody's.
pub type Whose = Option<Arc<str>>;

/// From when until before when, by the time of admission.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// From when.
    pub from: SystemTime,
    /// Until before when.
    pub to: SystemTime,
}

// === impl Records ===

impl Records {
    /// Reads this ledger.
    #[must_use]
    pub const fn new(ledger: Arc<SqliteLedger>) -> Self {
        Self { ledger }
    }

    /// The sum of them.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub async fn sum(&self, whose: Whose, span: Span) -> Result<Sum, LedgerError> {
        self.read(move |ledger| ledger.sum(whose.as_deref(), span.from, span.to))
            .await
    }

    /// The sums of them by day, model, conversation or user.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub async fn totals(
        &self,
        whose: Whose,
        span: Span,
        group_by: GroupBy,
    ) -> Result<Vec<GroupTotal>, LedgerError> {
        self.read(move |ledger| ledger.totals(whose.as_deref(), span.from, span.to, group_by))
            .await
    }

    /// The latest ones, at most `limit`, from `before` on backwards if it is given.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub async fn latest(
        &self,
        whose: Whose,
        span: Span,
        limit: usize,
        before: Option<RecordId>,
    ) -> Result<Vec<UsageRecord>, LedgerError> {
        self.read(move |ledger| ledger.records(whose.as_deref(), span.from, span.to, limit, before))
            .await
    }

    /// All of them, page by page, in the order of their admission; one page is in memory at a time.
    pub fn export(
        &self,
        whose: Whose,
        span: Span,
    ) -> impl Stream<Item = Result<Vec<UsageRecord>, LedgerError>> + Send + use<> {
        let pages = self.ledger.export(whose.as_deref(), span.from, span.to);
        unfold(pages, |mut pages| async move {
            let next = spawn_blocking(move || (pages.next(), pages)).await;
            // The runtime ends.
            let (page, pages) = next.ok()?;
            Some((page?, pages))
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&SqliteLedger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let ledger = Arc::clone(&self.ledger);
        let read = spawn_blocking(move || query(&ledger)).await;
        read.unwrap_or(Err(LedgerError::Closed))
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

/// The name of a group's key, and the key.
#[must_use]
pub fn group_key(group: &Group) -> (&'static str, Option<String>) {
    match group {
        Group::Day(day) => {
            let day = crate::api::rfc3339(*day);
            ("day", Some(day.chars().take(10).collect()))
        }
        Group::Model(model) => ("model", model.as_deref().map(str::to_owned)),
        Group::Session(session) => ("session", session.as_deref().map(str::to_owned)),
        Group::User(user) => ("user", Some(user.as_ref().to_owned())),
        _ => ("group", None),
    }
}
