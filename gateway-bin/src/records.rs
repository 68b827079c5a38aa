//! Everybody's records, wherever they are read.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::task::spawn_blocking;
use tower_usage::postgres::{self, PostgresLedger};
use tower_usage::sqlite::{self, Group, GroupBy, GroupTotal, LedgerError, SqliteLedger, Sum};
use tower_usage::{RecordId, UsageRecord};

/// The records of this gateway's ledger, or, where gateways share a database, those that all of them have shipped there;
/// clones read the same.
#[derive(Clone)]
pub enum Records {
    /// In the file of this gateway.
    File(Arc<SqliteLedger>),
    /// In the database. What was recorded in the last second or two may lack.
    Database(Box<PostgresLedger>),
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
    /// The sum of them.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub async fn sum(&self, whose: Whose, Span { from, to }: Span) -> Result<Sum, LedgerError> {
        match self {
            Self::File(ledger) => {
                read(ledger, move |ledger| ledger.sum(whose.as_deref(), from, to)).await
            }
            Self::Database(ledger) => ledger.sum(whose.as_deref(), from, to).await,
        }
    }

    /// The sums of them by day, model, conversation or user.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub async fn totals(
        &self,
        whose: Whose,
        Span { from, to }: Span,
        by: GroupBy,
    ) -> Result<Vec<GroupTotal>, LedgerError> {
        match self {
            Self::File(ledger) => {
                read(ledger, move |ledger| {
                    ledger.totals(whose.as_deref(), from, to, by)
                })
                .await
            }
            Self::Database(ledger) => ledger.totals(whose.as_deref(), from, to, by).await,
        }
    }

    /// The latest ones, at most `limit`, from `before` on backwards if it is given.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub async fn latest(
        &self,
        whose: Whose,
        Span { from, to }: Span,
        limit: usize,
        before: Option<RecordId>,
    ) -> Result<Vec<UsageRecord>, LedgerError> {
        match self {
            Self::File(ledger) => {
                let latest = move |ledger: &SqliteLedger| {
                    ledger.records(whose.as_deref(), from, to, limit, before)
                };
                read(ledger, latest).await
            }
            Self::Database(ledger) => {
                ledger
                    .records(whose.as_deref(), from, to, limit, before)
                    .await
            }
        }
    }

    /// Those of an answer, by the provider's id of it: the latest ones first, 100 at most.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub async fn find_by_response(
        &self,
        response_id: &Arc<str>,
    ) -> Result<Vec<UsageRecord>, LedgerError> {
        match self {
            Self::File(ledger) => {
                let response_id = Arc::clone(response_id);
                read(ledger, move |ledger| ledger.find_by_response(&response_id)).await
            }
            Self::Database(ledger) => ledger.find_by_response(response_id).await,
        }
    }

    /// All of them, page by page, in the order of their admission; one page is in memory at a time.
    pub fn export(
        &self,
        whose: Option<&str>,
        Span { from, to }: Span,
    ) -> impl Stream<Item = Result<Vec<UsageRecord>, LedgerError>> + Send + use<> {
        let pages = match self {
            Self::File(ledger) => Pages::File(ledger.export(whose, from, to)),
            Self::Database(ledger) => Pages::Database(Box::new(ledger.export(whose, from, to))),
        };
        // After an error there is nothing more.
        unfold(Some(pages), |pages| async move {
            let (page, pages) = pages?.next().await?;
            let pages = pages.filter(|_| page.is_ok());
            Some((page, pages))
        })
    }
}

enum Pages {
    File(sqlite::Export),
    Database(Box<postgres::Export>),
}

// === impl Pages ===

impl Pages {
    async fn next(self) -> Option<(Result<Vec<UsageRecord>, LedgerError>, Option<Self>)> {
        match self {
            Self::File(mut pages) => {
                let next = spawn_blocking(move || (pages.next(), pages)).await;
                // The runtime ends.
                let (page, pages) = next.ok()?;
                Some((page?, Some(Self::File(pages))))
            }
            Self::Database(mut pages) => {
                let page = pages.next_page().await.transpose()?;
                Some((page, Some(Self::Database(pages))))
            }
        }
    }
}

async fn read<T: Send + 'static>(
    ledger: &Arc<SqliteLedger>,
    query: impl FnOnce(&SqliteLedger) -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    let ledger = Arc::clone(ledger);
    let read = spawn_blocking(move || query(&ledger)).await;
    read.unwrap_or(Err(LedgerError::Closed))
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
