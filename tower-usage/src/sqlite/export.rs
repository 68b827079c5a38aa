use std::{fmt, sync::Arc, time::SystemTime};

use rusqlite::params;

use super::{
    LedgerError, SqliteLedger, query,
    row::{self, millis},
};
use crate::UsageRecord;

/// So many records are read at a time: some milliseconds, for which other queries wait.
const PAGE: usize = 1_000;

/// Records in the order of their admission, a page at a time: see [`SqliteLedger::export`].
///
/// An iterator of pages. Each blocks while it is read; only one is in memory at a time.
///
/// # Examples
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use tower_usage::sqlite::{LedgerError, LedgerOptions, SqliteLedger};
/// # let directory = tempfile::tempdir().unwrap();
/// # let ledger = SqliteLedger::open(directory.path().join("usage.db"), LedgerOptions::new())?;
/// # let (from, to) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33));
/// for page in ledger.export("alice", from, to) {
///     for record in page? {
///         println!("{}", record.id);
///     }
/// }
/// # Ok::<(), LedgerError>(())
/// ```
#[must_use = "nothing is read before it is asked for"]
pub struct Export {
    ledger: Arc<SqliteLedger>,
    user: Option<Arc<str>>,
    to: i64,
    /// Time and number of the last record; `None` after the last page.
    after: Option<(i64, i64)>,
}

// === impl Export ===

impl Export {
    pub(super) fn new(
        ledger: Arc<SqliteLedger>,
        user: Option<&str>,
        from: SystemTime,
        to: SystemTime,
    ) -> Self {
        Self {
            ledger,
            user: user.map(Into::into),
            to: millis(to),
            after: Some((millis(from), i64::MIN)),
        }
    }

    fn read(&mut self, (at, seq): (i64, i64)) -> Result<Vec<UsageRecord>, LedgerError> {
        let user = self.user.as_deref();
        let reader = self.ledger.reader();
        let mut query = reader
            .prepare_cached(&query::export_query(user.is_some()))
            .map_err(LedgerError::store)?;
        let rows = query.query_map(params![user, at, self.to, seq, PAGE as i64], |row| {
            Ok(((row.get("admitted_at")?, row.get("seq")?), row::read(row)?))
        });
        let (mut records, mut last) = (Vec::new(), None);
        for row in rows.map_err(LedgerError::store)? {
            let (key, record) = row.map_err(LedgerError::store)?;
            last = Some(key);
            records.push(record);
        }
        self.after = last.filter(|_| records.len() == PAGE);
        Ok(records)
    }
}

impl Iterator for Export {
    /// Never an empty page.
    type Item = Result<Vec<UsageRecord>, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let after = self.after.take()?;
        self.read(after)
            .map(|page| (!page.is_empty()).then_some(page))
            .transpose()
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}
