use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::types::FromSql;

use super::StoreError;

/// A row of an answer; its columns are counted from 0.
pub(super) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

// === impl Row ===

impl Row<'_> {
    pub(super) fn get<T>(&self, column: usize) -> Result<T, StoreError>
    where
        T: rusqlite::types::FromSql + for<'a> FromSql<'a>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    pub(super) fn text(&self, column: usize) -> Result<Arc<str>, StoreError> {
        Ok(self.get::<String>(column)?.into())
    }

    /// A number that is never negative, unless somebody else has written it.
    pub(super) fn amount(&self, column: usize) -> Result<u64, StoreError> {
        Ok(u64::try_from(self.get::<i64>(column)?).unwrap_or(0))
    }

    /// A number that fits into a smaller type.
    pub(super) fn small<T: TryFrom<i64>>(&self, column: usize) -> Result<T, StoreError> {
        T::try_from(self.get(column)?).map_err(|_| StoreError::Unreadable)
    }

    pub(super) fn time(&self, column: usize) -> Result<SystemTime, StoreError> {
        let since = Duration::from_millis(self.amount(column)?);
        UNIX_EPOCH.checked_add(since).ok_or(StoreError::Unreadable)
    }
}
