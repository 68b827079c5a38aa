use std::{fmt, sync::Arc, time::SystemTime};

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{
    LedgerError, PostgresLedger, row, statements,
    value::{Moment, Text},
};
use crate::UsageRecord;

/// So many records are read at a time.
const PAGE: usize = 1_000;

/// Records in the order of their admission, a page at a time: see [`PostgresLedger::export`].
///
/// Only one page is in memory at a time.
///
/// # Examples
///
/// ```no_run
/// # use std::time::SystemTime;
/// # use tower_usage::postgres::{LedgerError, PostgresLedger};
/// # async fn print(ledger: PostgresLedger, from: SystemTime, to: SystemTime) -> Result<(), LedgerError> {
/// let mut export = ledger.export("alice", from, to);
/// while let Some(page) = export.next_page().await? {
///     for record in page {
///         println!("{}", record.id);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is read before it is asked for"]
pub struct Export {
    ledger: PostgresLedger,
    user: Option<Arc<str>>,
    to: SystemTime,
    /// From when, and the last record of that time that was read. `None` after the last page.
    from: Option<(SystemTime, Option<Uuid>)>,
}

// === impl Export ===

impl Export {
    pub(super) fn new(
        ledger: PostgresLedger,
        user: Option<&str>,
        from: SystemTime,
        to: SystemTime,
    ) -> Self {
        Self {
            ledger,
            user: user.map(Into::into),
            to,
            from: Some((from, None)),
        }
    }

    /// The next page, never an empty one; `None` if there are no more.
    ///
    /// # Errors
    ///
    /// As [`PostgresLedger::sum`]. It can be asked for again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the page is still the next one.
    pub async fn next_page(&mut self) -> Result<Option<Vec<UsageRecord>>, LedgerError> {
        let Some((from, after)) = self.from else {
            return Ok(None);
        };
        let user = self.user.as_deref().map(Text);
        let statement = statements::export(user.is_some(), after.is_some());
        let most = PAGE as i64;
        let values = [
            (&Moment(from) as &(dyn ToSql + Sync), Type::TIMESTAMPTZ),
            (&Moment(self.to), Type::TIMESTAMPTZ),
            (&user, Type::TEXT),
            (&most, Type::INT8),
            (&after, Type::UUID),
        ];
        let rows = self.ledger.query(&statement, &values).await?;
        let page: Vec<_> = rows.iter().map(row::read).collect::<Result<_, _>>()?;
        self.from = page
            .last()
            .filter(|_| page.len() == PAGE)
            .map(|last| (last.admitted_at, Some(Uuid::from_u128(last.id.as_u128()))));
        Ok((!page.is_empty()).then_some(page))
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}
